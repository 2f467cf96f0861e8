"""int8: what is quantized, how ranges are observed, and the gate that a quantized model must pass."""

from __future__ import annotations
