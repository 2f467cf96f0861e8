"""Metrics with intervals, evaluation on labeled data, verification against golden vectors."""

from __future__ import annotations
