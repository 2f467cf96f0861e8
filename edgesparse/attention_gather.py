"""The fast path: gathers only the selected blocks, so work follows density (same result as the reference).

Each query block becomes one item of a batched dense attention over the blocks it kept, with its summary
tokens behind them. PyTorch's fused attention does the products, forward and backward; nothing of size
N x N exists.

Shapes as in attention_reference.py; `S` is the largest number of blocks that any query block kept, `b`
the block size, `L` the tokens one query block looks at.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad, scaled_dot_product_attention

from edgesparse.attention_reference import block_means
from edgesparse.selection import block_count, valid_counts


def gather_attention(
    query_BHND: Tensor,
    key_BGMD: Tensor,
    value_BGME: Tensor,
    order_BHQK: Tensor,
    kept_BHQK: Tensor,
    key_mask_BM: Tensor,
    reach_B1QK: Tensor,
    *,
    block_size: int,
    scale: float,
    summaries: bool,
    is_causal: bool,
) -> Tensor:
    """Attention over gathered blocks plus summaries; see `reference_attention` for the rule.

    Args:
        order_BHQK: block indices, the kept ones first (`selection.ordered_selection`).
        kept_BHQK: bool, whether the block at that place of `order` is kept.

    Returns:
        [B, H, N, E].
    """
    batch, heads, queries, size = query_BHND.shape
    groups = key_BGMD.shape[1]
    query_blocks = order_BHQK.shape[-2]
    slots = max(int(kept_BHQK.sum(-1).max()), 1)
    order, kept = order_BHQK[..., :slots], kept_BHQK[..., :slots]

    bias = _token_bias(order, kept, key_mask_BM, block_size, query_BHND.dtype, is_causal)
    if summaries:
        selection = torch.zeros_like(kept_BHQK).scatter(-1, order_BHQK, kept_BHQK)
        summary_bias = _summary_bias(reach_B1QK & ~selection, key_mask_BM, block_size, query_BHND.dtype)
        bias = torch.cat([bias, summary_bias.expand(-1, -1, -1, bias.shape[3], -1)], dim=-1)
    # A softmax over nothing is NaN; such rows look at anything and are set to zero afterwards.
    nothing = torch.isneginf(bias).all(-1, keepdim=True)
    bias = bias.masked_fill(nothing, 0.0)

    rows = _table_rows(order, groups, key_BGMD.shape[2], block_size, summaries)

    def gathered(x_BGMD: Tensor) -> Tensor:
        # embedding() is a row gather whose backward pass is cheap on CPU; index_select's is not.
        table = _block_table(x_BGMD, key_mask_BM, block_size, summaries)
        return embedding(rows, table).view(batch * heads, query_blocks, -1, x_BGMD.shape[3])

    query = pad(query_BHND, (0, 0, 0, query_blocks * block_size - queries))
    mixed = scaled_dot_product_attention(
        query.reshape(batch * heads, query_blocks, block_size, size),
        gathered(key_BGMD),
        gathered(value_BGME),
        attn_mask=bias.expand(-1, -1, -1, block_size, -1).flatten(0, 1),
        scale=scale,
    )
    mixed = mixed.view(batch, heads, query_blocks, block_size, -1).masked_fill(nothing, 0.0)
    return mixed.flatten(2, 3)[:, :, :queries]


def _block_table(x_BGMD: Tensor, key_mask_BM: Tensor, block_size: int, summaries: bool) -> Tensor:
    """All blocks as rows [B*G*(K + K'), b*D]; with summaries, K' more rows hold the K block means."""
    length = x_BGMD.shape[2]
    blocks = block_count(length, block_size)
    table = pad(x_BGMD, (0, 0, 0, blocks * block_size - length))
    if summaries:
        means = block_means(x_BGMD, key_mask_BM, block_size)
        means = pad(means, (0, 0, 0, block_count(blocks, block_size) * block_size - blocks))
        table = torch.cat([table, means], dim=2)
    return table.reshape(-1, block_size * x_BGMD.shape[3])


def _table_rows(order_BHQS: Tensor, groups: int, length: int, block_size: int, summaries: bool) -> Tensor:
    """Rows of the block table that each query block reads, int64 [B, H, Q, S + K']."""
    batch, heads, query_blocks, _ = order_BHQS.shape
    blocks = block_count(length, block_size)
    mean_rows = block_count(blocks, block_size) if summaries else 0
    device = order_BHQS.device
    group = torch.arange(heads, device=device) // (heads // groups)
    start = (torch.arange(batch, device=device)[:, None] * groups + group) * (blocks + mean_rows)
    means = torch.arange(blocks, blocks + mean_rows, device=device).expand(batch, heads, query_blocks, -1)
    return torch.cat([order_BHQS, means], dim=-1) + start[:, :, None, None]


def _token_bias(
    order_BHQS: Tensor,
    kept_BHQS: Tensor,
    key_mask_BM: Tensor,
    block_size: int,
    dtype: torch.dtype,
    is_causal: bool,
) -> Tensor:
    """0 for a gathered token that a query token may see, minus infinity else: [B, H, Q, b or 1, S*b]."""
    batch, keys = key_mask_BM.shape
    heads, query_blocks = order_BHQS.shape[1:3]
    key_blocks = block_count(keys, block_size)
    mask = pad(key_mask_BM, (0, key_blocks * block_size - keys))
    mask = mask.view(batch, 1, key_blocks, block_size).expand(-1, heads, -1, -1)
    flat = order_BHQS.flatten(2)[..., None].expand(-1, -1, -1, block_size)
    allowed = mask.gather(2, flat).view(*order_BHQS.shape, block_size) & kept_BHQS[..., None]
    allowed = allowed.flatten(3)[:, :, :, None, :]
    if is_causal:
        inside = torch.arange(block_size, device=order_BHQS.device)
        key_position = (order_BHQS[..., None] * block_size + inside).flatten(3)[:, :, :, None, :]
        starts = torch.arange(query_blocks, device=order_BHQS.device) * block_size
        allowed = allowed & (key_position <= (starts[:, None] + inside)[None, None, :, :, None])
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, -torch.inf)


def _summary_bias(dropped_BHQK: Tensor, key_mask_BM: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """log(count) for a dropped block's summary token, minus infinity else: [B, H, Q, 1, K' * b]."""
    counts = valid_counts(key_mask_BM, block_size)[:, None, None, :].to(dtype)
    bias = counts.log().expand(dropped_BHQK.shape).masked_fill(~dropped_BHQK, -torch.inf)
    blocks = dropped_BHQK.shape[-1]
    rows = block_count(blocks, block_size)
    return pad(bias, (0, rows * block_size - blocks), value=-torch.inf)[:, :, :, None, :]
