"""Data in memory: series, tensor batches, forecasting windows; `readers` loads them from files."""

from __future__ import annotations
