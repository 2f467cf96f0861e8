"""Counts what attention computes, as a share of dense attention: the figure that `--budget` bounds.

Counted are multiplications and additions of matrix products (2 per pair), of pooling and of the router;
softmax and selection are left out on both sides.
What is counted here is never presented as speed: that is measured (DESIGN section 7).
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.selection import valid_counts


def dense_flops(attributes: Attributes, head_size: int, lengths_B: Tensor) -> Tensor:
    """FLOPs of dense attention (QK^T and PV) over sequences of these lengths, float64 scalar."""
    n = lengths_B.double()
    pairs = n * (n + 1) / 2 if attributes.is_causal else n * n
    return 4.0 * attributes.num_heads * head_size * pairs.sum()


def sparse_flops(
    attributes: Attributes, head_size: int, selection_BHQK: Tensor, reach_B1QK: Tensor, key_mask_BM: Tensor
) -> Tensor:
    """FLOPs of sparse self-attention with this selection, router and summaries included, float64 scalar."""
    tokens = valid_counts(key_mask_BM, attributes.block_size).double()
    pairs = tokens[:, None, :, None] * tokens[:, None, None, :]
    if attributes.is_causal:
        triangle = (tokens * (tokens + 1) / 2).diag_embed()[:, None]
        pairs = torch.where(torch.eye(tokens.shape[1], dtype=torch.bool), triangle, pairs)
    total = (pairs * selection_BHQK).sum() * 4.0 * head_size + _router_flops(attributes, head_size, tokens)
    if attributes.summaries:
        dropped = (reach_B1QK & ~selection_BHQK) * tokens[:, None, :, None]
        build_means = 2.0 * attributes.kv_num_heads * head_size * tokens.sum()
        total = total + dropped.sum() * 4.0 * head_size + build_means
    return total


def _router_flops(attributes: Attributes, head_size: int, tokens_BK: Tensor) -> Tensor:
    d, heads, groups = head_size, attributes.num_heads, attributes.kv_num_heads
    real_blocks = (tokens_BK > 0).sum(-1).double()
    pooling = (heads + 3 * groups) * d * tokens_BK.sum()
    projections = 2.0 * d * d * (heads + 3 * groups) * real_blocks.sum()
    scores = 2.0 * d * heads * (real_blocks * real_blocks).sum()
    return pooling + projections + scores
