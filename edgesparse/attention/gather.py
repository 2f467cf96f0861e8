"""The fast path: gathers only the selected blocks, so work follows density (same result as the reference).

Query blocks are computed a few at a time, those that kept equally many blocks together. Each gathers its
blocks with all block means behind them; logits, softmax and products then run in the processor's cache on
reused buffers. The backward pass is written out: it needs the softmax's normalizer only, gathers
a second time and computes no forward pass again. Nothing of size N x N exists.

Shapes as in reference.py; `I` items (a batch entry and key/value head each), `R` query heads per item, `T`
query blocks of all heads of an item, `S` blocks kept, `b` the block size, `c` query blocks per piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.gather_layout import TableLayout
from edgesparse.attention.heads import merge_heads, split_heads
from edgesparse.attention.selection import block_count, ordered_selection, reachable_blocks, valid_blocks

# Gathered keys and values, logits and their gradients of one piece. Measured at 2,048 tokens: 2 to 6 MB
# run equally fast, 1 MB is a fifth slower and 512 KB a third (many small calls).
PIECE_BYTES = 4 << 20
# Keys and values of the batch entries whose tables exist at the same time; 0.5 to 8 MB run equally fast.
GROUP_BYTES = 2 << 20
# Powers of two are three times cheaper than powers of e: logits are in units of ln 2.
LN_2 = math.log(2.0)


def sparse_attention(
    query_BNC: Tensor,
    key_BMC: Tensor,
    value_BMC: Tensor,
    block_scores_BHQK: Tensor,
    top_p: Tensor,
    max_blocks: Tensor,
    key_mask_BM: Tensor,
    *,
    attributes: Attributes,
) -> tuple[Tensor, Tensor]:
    """The operator over gathered blocks; inputs and result as in `edgesparse.attention.reference`.

    The selection has no gradient, and none flows to scores and knobs.
    """
    a = attributes
    valid = valid_blocks(key_mask_BM, a.block_size)
    reach = reachable_blocks(valid, block_scores_BHQK.shape[2], is_causal=bool(a.is_causal))
    with torch.no_grad():
        order, kept = ordered_selection(block_scores_BHQK, top_p, max_blocks, reach, window=a.window)
        selection = torch.zeros_like(kept).scatter(-1, order, kept)
    key = split_heads(key_BMC, a.kv_num_heads)
    rule = _Rule(
        TableLayout(key.shape[2], a.block_size, bool(a.summaries)), a.scale, is_causal=bool(a.is_causal)
    )
    mixed: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
        split_heads(query_BNC, a.num_heads),
        key,
        split_heads(value_BMC, a.kv_num_heads),
        order,
        kept,
        None if bool(key_mask_BM.all()) else key_mask_BM,
        reach,
        rule,
    )
    return merge_heads(mixed), selection


@dataclass(frozen=True)
class _Rule:
    layout: TableLayout
    scale: float
    is_causal: bool

    @property
    def block_size(self) -> int:
        return self.layout.block_size


class _Gather(torch.autograd.Function):
    """Forward and backward pass over groups of batch entries and, in them, pieces of query blocks."""

    @staticmethod
    def forward(
        ctx: Any,
        query_BHND: Tensor,
        key_BGMD: Tensor,
        value_BGME: Tensor,
        order_BHQK: Tensor,
        kept_BHQK: Tensor,
        key_mask_BM: Tensor | None,
        reach_B1QK: Tensor,
        rule: _Rule,
    ) -> Tensor:
        batch, heads, queries, _ = query_BHND.shape
        buffers = _Buffers(query_BHND)
        # Token-major, as the projection that follows wants it: merging heads is then no copy.
        output = value_BGME.new_empty(batch, queries, heads, value_BGME.shape[3]).transpose(1, 2)
        log_sums = query_BHND.new_empty(batch, heads * order_BHQK.shape[2], rule.block_size, 1)
        for rows in _groups(key_BGMD, value_BGME):
            group = _Group(
                query_BHND[rows],
                key_BGMD[rows],
                value_BGME[rows],
                order_BHQK[rows],
                kept_BHQK[rows],
                None if key_mask_BM is None else key_mask_BM[rows],
                reach_B1QK[rows],
                rule,
            )
            mixed, sums = _forward(group, buffers)
            output[rows] = group.to_tokens(mixed, output[rows])
            # Kept in the group's order: the backward pass makes the same one.
            log_sums[rows] = sums.view(log_sums[rows].shape)
        ctx.save_for_backward(
            query_BHND, key_BGMD, value_BGME, order_BHQK, kept_BHQK, key_mask_BM, reach_B1QK, output, log_sums
        )
        ctx.rule = rule
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_grad_BHNE: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, order, kept, mask, reach, output, log_sums = ctx.saved_tensors
        grads = [x.new_empty(x.transpose(1, 2).shape).transpose(1, 2) for x in (query, key, value)]
        buffers = _Buffers(query)
        for rows in _groups(key, value):
            group = _Group(
                query[rows],
                key[rows],
                value[rows],
                order[rows],
                kept[rows],
                None if mask is None else mask[rows],
                reach[rows],
                ctx.rule,
            )
            query_grad, key_grad, value_grad = _backward(
                group,
                group.by_block((output[rows] * output_grad_BHNE[rows]).sum(-1, keepdim=True)),
                group.by_block(output_grad_BHNE[rows]),
                log_sums[rows].flatten(0, 1),
                buffers,
            )
            grads[0][rows] = group.to_tokens(query_grad, query[rows])
            grads[1][rows] = key_grad.view(key[rows].shape)
            grads[2][rows] = value_grad.view(value[rows].shape)
        return (*grads, None, None, None, None, None)


def _groups(key_BGMD: Tensor, value_BGME: Tensor) -> Iterator[slice]:
    """Batch entries that are computed together."""
    batch = len(key_BGMD)
    bytes_each = (key_BGMD[0].numel() + value_BGME[0].numel()) * key_BGMD.element_size()
    count = max(1, GROUP_BYTES // max(bytes_each, 1))
    for start in range(0, batch, count):
        yield slice(start, min(start + count, batch))


@dataclass(frozen=True)
class _Piece:
    """Query blocks that are computed together.

    Attributes:
        index: their places in the group's order.
        rows: of the tables that they gather, int64 [c * rows per query block].
        tokens: of kept blocks; those behind them are block means.
        hidden: gathered tokens that are hidden, bool [c, b or 1, tokens]; None = all are seen.
        summary_bias: added to the logits of block means [c, 1, means].
    """

    index: slice
    rows: Tensor
    tokens: int
    hidden: Tensor | None
    summary_bias: Tensor | None


class _Group:
    """What forward and backward pass share for some batch entries: tables, scaled queries, pieces.

    Query blocks of all heads follow one another, sorted by how many blocks they kept: a piece is as wide as
    its widest member.
    """

    def __init__(
        self,
        query_BHND: Tensor,
        key_BGMD: Tensor,
        value_BGME: Tensor,
        order_BHQK: Tensor,
        kept_BHQK: Tensor,
        key_mask_BM: Tensor | None,
        reach_B1QK: Tensor,
        rule: _Rule,
    ) -> None:
        self.rule, self.layout = rule, rule.layout
        batch, groups = key_BGMD.shape[:2]
        self.key, self.value = key_BGMD.flatten(0, 1), value_BGME.flatten(0, 1)
        self.mask = None if key_mask_BM is None else key_mask_BM.repeat_interleave(groups, 0)
        self.key_table = self.layout.build(self.key, self.mask)
        self.value_table = self.layout.build(self.value, self.mask)
        counts = kept_BHQK.sum(-1).flatten()
        self.place = None if bool((counts == counts[0]).all()) else counts.argsort(stable=True)
        self.counts: list[int] = self._sorted(counts).tolist()
        widest = max(self.counts[-1], 1)
        order, kept = order_BHQK[..., :widest], kept_BHQK[..., :widest]
        # Logits in units of ln 2: the query carries the factor.
        self.query = self.by_block(query_BHND, rule.scale / LN_2)
        self.rows = self._sorted(self.layout.rows(order.reshape(batch * groups, -1, widest)).flatten(0, 1))
        self.summary_bias = self._summary_bias(order_BHQK, kept_BHQK, key_mask_BM, reach_B1QK)
        self.allowed = self._allowed(order, kept, key_mask_BM)

    def by_block(self, x_BHND: Tensor, factor: float = 1.0) -> Tensor:
        """[B*H*Q, b, D] times the factor in the group's order, the last block filled up with zeros."""
        batch, heads, length, size = x_BHND.shape
        rest = -length % self.rule.block_size
        x = x_BHND.new_empty(batch, heads, length + rest, size)
        # One pass over memory for scale, padding and order of axes.
        torch.mul(x_BHND, factor, out=x[:, :, :length])
        x[:, :, length:] = 0.0
        return self._sorted(x.view(-1, self.rule.block_size, size))

    def to_tokens(self, x_TbD: Tensor, like_BHND: Tensor) -> Tensor:
        """The inverse of `by_block`."""
        batch, heads, queries, size = like_BHND.shape
        if self.place is not None:
            x_TbD = torch.empty_like(x_TbD).index_copy_(0, self.place, x_TbD)
        return x_TbD.view(batch, heads, -1, size)[:, :, :queries]

    def pieces(self) -> Iterator[_Piece]:
        """Runs of query blocks whose gathered copies and logits fit the cache."""
        tile, end = self.layout.tile, len(self.counts)
        means = self.layout.mean_tiles * tile
        sizes = self.key.shape[-1] + self.value.shape[-1]
        start = 0
        while start < end:
            tokens = max(self.counts[start], 1) * self.rule.block_size + means
            each = tokens * (sizes + 2 * self.rule.block_size) * self.key.element_size()
            stop = min(start + max(1, PIECE_BYTES // each), end)
            yield self._piece(slice(start, stop))
            start = stop

    def _piece(self, index: slice) -> _Piece:
        slots = max(self.counts[index.stop - 1], 1)
        blocks = slots * self.layout.tiles_per_block
        rows = self.rows[index]
        if blocks + self.layout.mean_tiles < rows.shape[1]:
            rows = torch.cat([rows[:, :blocks], rows[:, rows.shape[1] - self.layout.mean_tiles :]], dim=1)
        hidden = None
        if self.allowed is not None:
            hidden = ~self.allowed[index][..., : slots * self.rule.block_size]
        elif self.counts[index.start] != slots:
            kept = torch.tensor(self.counts[index])[:, None] > torch.arange(slots)
            hidden = ~kept[:, None].repeat_interleave(self.rule.block_size, dim=-1).to(rows.device)
        bias = None if self.summary_bias is None else self.summary_bias[index]
        return _Piece(index, rows.flatten(), slots * self.rule.block_size, hidden, bias)

    def _sorted(self, x_T: Tensor) -> Tensor:
        return x_T if self.place is None else x_T[self.place]

    def _summary_bias(
        self, order_BHQK: Tensor, kept_BHQK: Tensor, key_mask_BM: Tensor | None, reach_B1QK: Tensor
    ) -> Tensor | None:
        """log2(count) for a dropped block's summary token, minus infinity else: [T, 1, K' * g]."""
        if not self.layout.summaries:
            return None
        dropped = reach_B1QK & ~torch.zeros_like(kept_BHQK).scatter(-1, order_BHQK, kept_BHQK)
        counts = self.layout.counts(key_mask_BM, self.key)[:, None, None, :, 0]
        bias = counts.log2().expand(dropped.shape).masked_fill(~dropped, -torch.inf).flatten(0, 2)
        rest = self.layout.mean_tiles * self.layout.tile - self.layout.blocks
        return self._sorted(pad(bias, (0, rest), value=-torch.inf)[:, None])

    def _allowed(self, order_BHQS: Tensor, kept_BHQS: Tensor, key_mask_BM: Tensor | None) -> Tensor | None:
        """Gathered tokens that a query token may see, bool [T, b or 1, S*b]; None = all of kept blocks."""
        block_size, length = self.rule.block_size, self.layout.length
        if key_mask_BM is None and not self.rule.is_causal and length % block_size == 0:
            return None
        if key_mask_BM is None:
            key_mask_BM = torch.ones(len(order_BHQS), length, dtype=torch.bool, device=order_BHQS.device)
        allowed = _token_allowed(order_BHQS, kept_BHQS, key_mask_BM, block_size, self.rule.is_causal)
        return self._sorted(allowed.flatten(0, 2))


def _token_allowed(
    order_BHQS: Tensor, kept_BHQS: Tensor, key_mask_BM: Tensor, block_size: int, is_causal: bool
) -> Tensor:
    """Whether a query token may see a gathered token, bool [B, H, Q, b or 1, S*b]."""
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
    return allowed


class _Buffers:
    """Memory that every piece uses again: fresh pages would cost more than the products."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.flat: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """An uninitialized tensor of this shape; the one last taken under this name is lost."""
        size = math.prod(shape)
        if name not in self.flat or self.flat[name].numel() < size:
            self.flat[name] = self.like.new_empty(size)
        return self.flat[name][:size].view(shape)


def _gather(table: Tensor, piece: _Piece, size: int, buffer: Tensor) -> Tensor:
    """[c, tokens, size] of a table of rows."""
    count = piece.index.stop - piece.index.start
    torch.index_select(table, 0, piece.rows, out=buffer.view(len(piece.rows), -1))
    return buffer.view(count, -1, size)


def _logits(query_cbD: Tensor, key_cWD: Tensor, piece: _Piece, out_cbW: Tensor) -> Tensor:
    """Products of queries and gathered keys; minus infinity where a query may not look."""
    torch.bmm(query_cbD, key_cWD.mT, out=out_cbW)
    if piece.hidden is not None:
        out_cbW[..., : piece.tokens].masked_fill_(piece.hidden, -torch.inf)
    if piece.summary_bias is not None:
        out_cbW[..., piece.tokens :].add_(piece.summary_bias)
    return out_cbW


def _forward(group: _Group, buffers: _Buffers) -> tuple[Tensor, Tensor]:
    """Output [T, b, E] and base-2 logarithm of the softmax's sum [T, b, 1], both in the group's order."""
    blocks, block_size, size = group.query.shape
    value_size = group.value.shape[-1]
    output = group.query.new_empty(blocks, block_size, value_size)
    largest, sums = group.query.new_empty(2, blocks, block_size, 1)
    for piece in group.pieces():
        index, count = piece.index, piece.index.stop - piece.index.start
        width = len(piece.rows) // count * group.layout.tile
        key = _gather(group.key_table, piece, size, buffers.take("key", count, width, size))
        value = _gather(group.value_table, piece, value_size, buffers.take("value", count, width, value_size))
        weights = _logits(group.query[index], key, piece, buffers.take("p", count, block_size, width))
        torch.amax(weights, -1, keepdim=True, out=largest[index])
        if piece.hidden is not None:
            # A query that sees nothing: exp2(-inf - finite) is 0, and so is its output.
            largest[index].clamp_(min=torch.finfo(weights.dtype).min)
        weights.sub_(largest[index]).exp2_()
        torch.sum(weights, -1, keepdim=True, out=sums[index])
        torch.bmm(weights, value, out=output[index])
    output.div_(sums.clamp(min=torch.finfo(sums.dtype).tiny))
    return output, (largest + sums.log2()).masked_fill_(sums == 0, 0.0)


def _backward(
    group: _Group, delta_Tb1: Tensor, grad_TbE: Tensor, log_sums_Tb1: Tensor, buffers: _Buffers
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the query [T, b, D] and of key and value [I, M, .]."""
    _, block_size, size = group.query.shape
    value_size = group.value.shape[-1]
    query_grad = torch.empty_like(group.query)
    key_grad, value_grad = torch.zeros_like(group.key_table), torch.zeros_like(group.value_table)
    for piece in group.pieces():
        count = piece.index.stop - piece.index.start
        width = len(piece.rows) // count * group.layout.tile
        query, grad = group.query[piece.index], grad_TbE[piece.index]
        key = _gather(group.key_table, piece, size, buffers.take("key", count, width, size))
        value = _gather(group.value_table, piece, value_size, buffers.take("value", count, width, value_size))
        weights = _logits(query, key, piece, buffers.take("p", count, block_size, width))
        weights.sub_(log_sums_Tb1[piece.index]).exp2_()
        logits_grad = buffers.take("s", count, block_size, width)
        torch.bmm(grad, value.mT, out=logits_grad)
        logits_grad.sub_(delta_Tb1[piece.index]).mul_(weights)
        torch.bmm(logits_grad, key, out=query_grad[piece.index])
        # The gathered copies are used up: their place takes their gradients.
        torch.bmm(weights.mT, grad, out=value)
        value_grad.index_add_(0, piece.rows, value.view(len(piece.rows), -1))
        torch.bmm(logits_grad.mT, query, out=key)
        key_grad.index_add_(0, piece.rows, key.view(len(piece.rows), -1))
    key_grad.mul_(LN_2)
    return (
        query_grad.mul_(group.rule.scale),
        group.layout.gradient(key_grad, group.key, group.mask),
        group.layout.gradient(value_grad, group.value, group.mask),
    )
