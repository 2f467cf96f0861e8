"""Verbs that make or change a model: train, export, quantize, pack, sign, quickstart."""

from __future__ import annotations
