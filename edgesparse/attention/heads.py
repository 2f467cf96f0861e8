"""Packed tensors to heads and back."""

from __future__ import annotations

from torch import Tensor


def split_heads(x_BNC: Tensor, heads: int) -> Tensor:
    """[B, N, H*D] -> [B, H, N, D]."""
    batch, length, width = x_BNC.shape
    return x_BNC.view(batch, length, heads, width // heads).transpose(1, 2)


def merge_heads(x_BHND: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, N, H*D]."""
    batch, heads, length, size = x_BHND.shape
    return x_BHND.transpose(1, 2).reshape(batch, length, heads * size)
