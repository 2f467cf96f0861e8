"""Counts what attention computes, as a share of dense attention: the figure that `--budget` bounds.

Counted are multiplications and additions of matrix products (2 a pair), of pooling and of the router;
softmax and selection are not FLOPs that dense attention would be spared, and are left out on both sides.
What is counted here is never presented as speed: that is measured (DESIGN section 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgesparse.attention.selection import valid_counts


@dataclass(frozen=True)
class AttentionShape:
    """What the count of one attention layer depends on besides its selection."""

    heads: int
    groups: int
    head_size: int
    block_size: int
    summaries: bool
    is_causal: bool


def dense_flops(shape: AttentionShape, lengths_B: Tensor) -> Tensor:
    """FLOPs of dense attention (QK^T and PV) over sequences of these lengths, float64 scalar."""
    n = lengths_B.double()
    pairs = n * (n + 1) / 2 if shape.is_causal else n * n
    return 4.0 * shape.heads * shape.head_size * pairs.sum()


def sparse_flops(
    shape: AttentionShape, selection_BHQK: Tensor, reach_B1QK: Tensor, key_mask_BM: Tensor
) -> Tensor:
    """FLOPs of sparse self-attention with this selection, router and summaries included, float64 scalar."""
    tokens = valid_counts(key_mask_BM, shape.block_size).double()
    query_tokens = tokens[:, None, :, None]
    pairs = query_tokens * tokens[:, None, None, :]
    if shape.is_causal:
        triangle = (tokens * (tokens + 1) / 2).diag_embed()[:, None]
        pairs = torch.where(torch.eye(tokens.shape[1], dtype=torch.bool), triangle, pairs)
    attended = (pairs * selection_BHQK).sum() * 4.0 * shape.head_size
    return attended + _summary_flops(shape, selection_BHQK, reach_B1QK, tokens) + _router_flops(shape, tokens)


def _summary_flops(
    shape: AttentionShape, selection_BHQK: Tensor, reach_B1QK: Tensor, tokens_BK: Tensor
) -> Tensor:
    if not shape.summaries:
        return torch.zeros((), dtype=torch.float64)
    dropped = (reach_B1QK & ~selection_BHQK) * tokens_BK[:, None, :, None]
    build_means = 2.0 * shape.groups * shape.head_size * tokens_BK.sum()
    return dropped.sum() * 4.0 * shape.head_size + build_means


def _router_flops(shape: AttentionShape, tokens_BK: Tensor) -> Tensor:
    d = shape.head_size
    real_blocks = (tokens_BK > 0).sum(-1).double()
    pooling = (shape.heads + 3 * shape.groups) * d * tokens_BK.sum()
    projections = 2.0 * d * d * (shape.heads + 3 * shape.groups) * real_blocks.sum()
    scores = 2.0 * d * shape.heads * (real_blocks * real_blocks).sum()
    return pooling + projections + scores
