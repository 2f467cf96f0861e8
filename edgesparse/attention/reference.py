"""The naive twin: sparse attention as dense attention with a mask, written to be read.

It computes everything and throws most of it away. The fast path, the ONNX function body and the C++
kernel are all tested against it; in float64 it is the reference that errors are measured from.

Shapes: `B` batch, `N` query tokens, `M` key tokens, `H` heads, `G` key/value heads, `D`/`E` head size of
keys/values, `Q`/`K` query and key blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgesparse.attention.selection import block_count, valid_counts


def split_heads(x_BNC: Tensor, heads: int) -> Tensor:
    """[B, N, H*D] -> [B, H, N, D]."""
    batch, length, width = x_BNC.shape
    return x_BNC.view(batch, length, heads, width // heads).transpose(1, 2)


def merge_heads(x_BHND: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, N, H*D]."""
    batch, heads, length, size = x_BHND.shape
    return x_BHND.transpose(1, 2).reshape(batch, length, heads * size)


def block_means(x_BHMD: Tensor, key_mask_BM: Tensor, block_size: int) -> Tensor:
    """Mean over each block's unmasked tokens, [B, H, K, D]; an empty block gives 0."""
    batch, heads, length, size = x_BHMD.shape
    blocks = block_count(length, block_size)
    # A pass over everything, forward and backward, that most data does not need.
    x = x_BHMD if bool(key_mask_BM.all()) else x_BHMD.masked_fill(~key_mask_BM[:, None, :, None], 0.0)
    x = torch.nn.functional.pad(x, (0, 0, 0, blocks * block_size - length))
    counts = valid_counts(key_mask_BM, block_size).clamp(min=1)[:, None, :, None]
    return x.view(batch, heads, blocks, block_size, size).sum(3) / counts


def reference_attention(
    query_BHND: Tensor,
    key_BGMD: Tensor,
    value_BGME: Tensor,
    selection_BHQK: Tensor,
    key_mask_BM: Tensor,
    reach_B1QK: Tensor,
    *,
    block_size: int,
    scale: float,
    summaries: bool,
    is_causal: bool,
) -> Tensor:
    """Attention over kept blocks plus one summary token a dropped block (docs/operator.md, Attention).

    Args:
        selection_BHQK: bool, the blocks to attend to.
        key_mask_BM: bool, false = padding.
        reach_B1QK: bool, blocks that are valid (and, causal, not in the future).

    Returns:
        [B, H, N, E]; a query with nothing valid gives zeros.
    """
    heads, queries = query_BHND.shape[1:3]
    groups, keys = key_BGMD.shape[1:3]
    key = key_BGMD.repeat_interleave(heads // groups, dim=1)
    value = value_BGME.repeat_interleave(heads // groups, dim=1)

    def to_tokens(blocks: Tensor, dim: int, length: int) -> Tensor:
        return blocks.repeat_interleave(block_size, dim=dim).narrow(dim, 0, length)

    allowed = to_tokens(to_tokens(selection_BHQK, -1, keys), -2, queries) & key_mask_BM[:, None, None, :]
    if is_causal:
        allowed = allowed & torch.ones(queries, keys, dtype=torch.bool, device=key.device).tril()
    logits = (query_BHND @ key.mT * scale).masked_fill(~allowed, -torch.inf)
    if summaries:
        counts = valid_counts(key_mask_BM, block_size)[:, None, None, :].to(key.dtype)
        dropped = to_tokens(reach_B1QK & ~selection_BHQK, -2, queries)
        summary_logits = query_BHND @ block_means(key, key_mask_BM, block_size).mT * scale + counts.log()
        logits = torch.cat([logits, summary_logits.masked_fill(~dropped, -torch.inf)], dim=-1)
        value = torch.cat([value, block_means(value, key_mask_BM, block_size)], dim=2)
    weights = logits.softmax(-1)
    # Rows with nothing valid are all NaN after the softmax; the contract says zeros.
    nothing = torch.isneginf(logits).all(-1, keepdim=True)
    return weights.masked_fill(nothing, 0.0) @ value
