"""Causal models exported token by token for streams."""

from __future__ import annotations
