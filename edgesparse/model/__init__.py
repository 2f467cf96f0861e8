"""From raw windows to outputs: normalization, filter bank, transformer, forecaster."""

from __future__ import annotations
