"""What a decision for or against a model is taken on: answers, latency, the verdict, and the page."""

from __future__ import annotations
