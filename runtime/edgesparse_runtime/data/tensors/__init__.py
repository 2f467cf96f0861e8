"""Models that take named tensors: the tensors, and texts that become such."""

from __future__ import annotations
