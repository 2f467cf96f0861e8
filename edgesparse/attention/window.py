"""The fast path of `edgesparse::WindowAttention`: a block of queries at a time against the keys it spans.

The keys that a token sees follow one another, and neither end of them falls from one token to the next. So
a block of queries reads one slice of keys, and nothing of size N x N exists. The backward pass is written
out: it computes the weights of a block again from the softmax's normalizer.

Shapes as in window_reference.py; `R` query heads per key/value head, `n` queries and `m` keys of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgesparse.attention.attributes import WindowAttributes
from edgesparse.attention.heads import merge_heads, split_heads

# Queries of a block.
BLOCK = 128


def window_attention(
    query_BNC: Tensor,
    key_BNC: Tensor,
    value_BNC: Tensor,
    key_mask_BN: Tensor,
    starts_S: Tensor,
    *,
    attributes: WindowAttributes,
) -> Tensor:
    """The operator in slices; inputs and result as in `edgesparse.attention.window_reference`."""
    a = attributes
    query = split_heads(query_BNC, a.num_heads)
    batch, _, length, size = query.shape
    query = query.reshape(batch, a.kv_num_heads, a.num_heads // a.kv_num_heads, length, size)
    first, last = token_spans(length, starts_S.to(query.device), a)
    mixed: Tensor = _Slices.apply(  # type: ignore[no-untyped-call]
        query * a.scale,
        split_heads(key_BNC, a.kv_num_heads),
        split_heads(value_BNC, a.kv_num_heads).masked_fill(~key_mask_BN[:, None, :, None], 0.0),
        key_mask_BN,
        first,
        last,
    )
    return merge_heads(mixed.flatten(1, 2))


def token_spans(length: int, starts_S: Tensor, attributes: WindowAttributes) -> tuple[Tensor, Tensor]:
    """The first and the last token that each token sees, int64 [N] each."""
    token = torch.arange(length, device=starts_S.device)
    bounds = torch.cat([token.new_zeros(1), starts_S, token.new_full((1,), length)])
    text = torch.searchsorted(bounds, token, right=True)
    first, last = bounds[text - 1], bounds[text] - 1
    if attributes.left_window >= 0:
        first = torch.maximum(first, token - attributes.left_window)
    if attributes.right_window >= 0:
        last = torch.minimum(last, token + attributes.right_window)
    return first, last


class _Slices(torch.autograd.Function):
    """[B, G, R, N, D] scaled queries, [B, G, N, D] keys, [B, G, N, E] values to [B, G, R, N, E]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_mask_BN: Tensor,
        first_N: Tensor,
        last_N: Tensor,
    ) -> Tensor:
        output = query.new_zeros(*query.shape[:4], value.shape[-1])
        log_sums = query.new_zeros(*query.shape[:4], 1)
        for rows, keys in _blocks(first_N, last_N):
            logits = _logits(query, key, key_mask_BN, first_N, last_N, rows, keys)
            largest = logits.amax(-1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)
            weights = logits.sub_(largest).exp_()
            sums = weights.sum(-1, keepdim=True)
            mixed = _rows(weights) @ value[:, :, keys]
            divisor = sums.clamp(min=torch.finfo(sums.dtype).tiny)
            output[:, :, :, rows] = mixed.view(*weights.shape[:4], -1) / divisor
            # Where nothing is seen, weights stay 0: their logits are minus infinity.
            log_sums[:, :, :, rows] = (largest + sums.log()).masked_fill_(sums == 0, 0.0)
        ctx.save_for_backward(query, key, value, key_mask_BN, first_N, last_N, output, log_sums)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, first, last, output, log_sums = ctx.saved_tensors
        query_grad, key_grad, value_grad = (torch.zeros_like(x) for x in (query, key, value))
        delta = (output * output_grad).sum(-1, keepdim=True)
        for rows, keys in _blocks(first, last):
            logits = _logits(query, key, mask, first, last, rows, keys)
            weights = logits.sub_(log_sums[:, :, :, rows]).exp_()
            grad = output_grad[:, :, :, rows]
            value_grad[:, :, keys] += _rows(weights).mT @ _rows(grad)
            logits_grad = (_rows(grad) @ value[:, :, keys].mT).view(weights.shape)
            logits_grad.sub_(delta[:, :, :, rows]).mul_(weights)
            query_grad[:, :, :, rows] = (_rows(logits_grad) @ key[:, :, keys]).view(
                query[:, :, :, rows].shape
            )
            key_grad[:, :, keys] += _rows(logits_grad).mT @ _rows(query[:, :, :, rows])
        return query_grad, key_grad, value_grad, None, None, None


def _blocks(first_N: Tensor, last_N: Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, and the keys that any of them sees."""
    length = len(first_N)
    starts = range(0, length, BLOCK)
    begins = first_N[::BLOCK].tolist()
    ends = [int(last_N[min(start + BLOCK, length) - 1]) + 1 for start in starts]
    for start, begin, end in zip(starts, begins, ends, strict=True):
        yield slice(start, min(start + BLOCK, length)), slice(begin, end)


def _rows(x_BGRnX: Tensor) -> Tensor:
    """[B, G, R*n, X]: the query heads that share a key/value head one after the other."""
    return x_BGRnX.flatten(2, 3)


def _logits(
    query: Tensor, key: Tensor, key_mask_BN: Tensor, first_N: Tensor, last_N: Tensor, rows: slice, keys: slice
) -> Tensor:
    """[B, G, R, n, m], minus infinity where a query does not look."""
    block = query[:, :, :, rows]
    logits = (_rows(block) @ key[:, :, keys].mT).view(*block.shape[:4], keys.stop - keys.start)
    token = torch.arange(keys.start, keys.stop, device=query.device)
    outside = (token < first_N[rows, None]) | (token > last_N[rows, None])
    hidden = outside | ~key_mask_BN[:, None, None, None, keys]
    return logits.masked_fill_(hidden, -torch.inf)
