"""The sparse attention operator in PyTorch: naive reference, fast path, router, and the layer around them."""

from __future__ import annotations
