"""The fast path: gathers only the selected blocks, so work follows density (same result as the reference).

Each query block becomes one item of a batched dense attention over the blocks it kept, with its summary
tokens behind them. PyTorch's fused attention does the products, forward and backward; nothing of size
N x N exists. Long inputs are worked through in chunks whose gathered keys stay in the processor's cache;
a chunk's gathered copies are made again in the backward pass rather than kept.

Shapes as in attention_reference.py; `I` items (a batch entry and key/value head each), `R` query heads an
item, `S` the largest number of blocks that any query block of the chunk kept, `b` the block size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from edgesparse.attention_reference import block_means
from edgesparse.selection import block_count, valid_counts

# Gathered keys of one chunk. Measured at 2,048 and 4,096 tokens: 1 to 4 MB are alike, 32 MB is a third
# slower (every step then faults in fresh pages), 256 KB pays for many small calls.
CHUNK_BYTES = 2 << 20


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
    batch, heads = query_BHND.shape[:2]
    groups = key_BGMD.shape[1]
    items = batch * groups

    def by_item(x: Tensor) -> Tensor:
        return x.reshape(items, heads // groups, *x.shape[2:])

    query, order, kept = by_item(query_BHND), by_item(order_BHQK), by_item(kept_BHQK)
    key, value = (
        key_BGMD.reshape(items, *key_BGMD.shape[2:]),
        value_BGME.reshape(items, *value_BGME.shape[2:]),
    )
    mask, reach = key_mask_BM.repeat_interleave(groups, 0), reach_B1QK.repeat_interleave(groups, 0)

    def attend(*chunk: Tensor) -> Tensor:
        slots = max(int(chunk[4].sum(-1).max()), 1)
        return _attend(
            *chunk, slots=slots, block_size=block_size, scale=scale, summaries=summaries, is_causal=is_causal
        )

    everything = (query, key, value, order, kept, mask, reach)
    kept_blocks = int(kept.sum(-1).amax(-1).sum()) * order.shape[2]
    chunks = min(items, -(-kept_blocks * block_size * key.shape[-1] * key.element_size() // CHUNK_BYTES))
    if chunks <= 1:
        return attend(*everything).view(batch, heads, -1, value.shape[-1])
    # split(), not slicing: the backward pass of a slice writes a whole tensor of zeros.
    mixed = [
        checkpoint(attend, *chunk, use_reentrant=False, preserve_rng_state=False)
        for chunk in zip(*(torch.split(x, -(-items // chunks)) for x in everything), strict=True)
    ]
    return torch.cat(mixed).view(batch, heads, -1, value.shape[-1])


def _attend(
    query_IRND: Tensor,
    key_IMD: Tensor,
    value_IME: Tensor,
    order_IRQK: Tensor,
    kept_IRQK: Tensor,
    key_mask_IM: Tensor,
    reach_I1QK: Tensor,
    *,
    slots: int,
    block_size: int,
    scale: float,
    summaries: bool,
    is_causal: bool,
) -> Tensor:
    """One chunk, [I, R, N, E]."""
    items, heads, queries, size = query_IRND.shape
    query_blocks = order_IRQK.shape[-2]
    order, kept = order_IRQK[..., :slots], kept_IRQK[..., :slots]
    bias = _token_bias(order, kept, key_mask_IM, block_size, query_IRND.dtype, is_causal)
    if summaries:
        selection = torch.zeros_like(kept_IRQK).scatter(-1, order_IRQK, kept_IRQK)
        summary_bias = _summary_bias(reach_I1QK & ~selection, key_mask_IM, block_size, query_IRND.dtype)
        bias = torch.cat([bias, summary_bias.expand(-1, -1, -1, bias.shape[3], -1)], dim=-1)
    # A softmax over nothing is NaN; such rows look at anything and are set to zero afterwards.
    nothing = torch.isneginf(bias).all(-1, keepdim=True)
    has_nothing = bool(nothing.any())
    if has_nothing:
        bias = bias.masked_fill(nothing, 0.0)
    rows = _table_rows(order, key_IMD.shape[1], block_size, summaries)

    def gathered(x_IMD: Tensor) -> Tensor:
        # embedding() is a row gather whose backward pass is cheap on CPU; index_select's is not.
        table = _block_table(x_IMD, key_mask_IM, block_size, summaries)
        return embedding(rows, table).view(items * heads, query_blocks, -1, x_IMD.shape[2])

    query = pad(query_IRND, (0, 0, 0, query_blocks * block_size - queries))
    mixed = scaled_dot_product_attention(
        query.reshape(items * heads, query_blocks, block_size, size),
        gathered(key_IMD),
        gathered(value_IME),
        attn_mask=bias.expand(-1, -1, -1, block_size, -1).flatten(0, 1),
        scale=scale,
    )
    mixed = mixed.view(items, heads, query_blocks, block_size, -1)
    if has_nothing:
        mixed = mixed.masked_fill(nothing, 0.0)
    return mixed.flatten(2, 3)[:, :, :queries]


def _block_table(x_IMD: Tensor, key_mask_IM: Tensor, block_size: int, summaries: bool) -> Tensor:
    """All blocks as rows [I*(K + K'), b*D]; with summaries, K' more rows an item hold its K block means."""
    length = x_IMD.shape[1]
    blocks = block_count(length, block_size)
    table = pad(x_IMD, (0, 0, 0, blocks * block_size - length))
    if summaries:
        means = block_means(x_IMD[:, None], key_mask_IM, block_size)[:, 0]
        means = pad(means, (0, 0, 0, block_count(blocks, block_size) * block_size - blocks))
        table = torch.cat([table, means], dim=1)
    return table.reshape(-1, block_size * x_IMD.shape[2])


def _table_rows(order_IRQS: Tensor, length: int, block_size: int, summaries: bool) -> Tensor:
    """Rows of the block table that each query block reads, int64 [I, R, Q, S + K']."""
    items, heads, query_blocks, _ = order_IRQS.shape
    blocks = block_count(length, block_size)
    mean_rows = block_count(blocks, block_size) if summaries else 0
    device = order_IRQS.device
    start = torch.arange(items, device=device) * (blocks + mean_rows)
    means = torch.arange(blocks, blocks + mean_rows, device=device).expand(items, heads, query_blocks, -1)
    return torch.cat([order_IRQS, means], dim=-1) + start[:, None, None, None]


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
