"""The naive twin: the operator of docs/reference/operator.md, one query block at a time, written to be read.

The fast path, the ONNX function body and the C++ kernels are all tested against it; on float64 inputs it is
the reference that errors are measured from.

Shapes: `B` batch, `N` query tokens, `M` key tokens, `H` query heads, `G` key/value heads, `D`/`E` head size
of keys/values, `Q`/`K` query and key blocks, `n` tokens of one query block.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.heads import merge_heads, split_heads


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
    """Select blocks, then attend to their tokens and to one summary token per dropped block.

    Args:
        query_BNC: packed, [B, N, H*D]; key [B, M, G*D] and value [B, M, G*E] likewise.
        block_scores_BHQK: the router's score of each query block for each key block.
        top_p: [H] or [1].
        max_blocks: int64 [1].
        key_mask_BM: bool, false = padding.

    Returns:
        Output [B, N, H*E] in the dtype of the query, and the selection, bool [B, H, Q, K], true = attended.
        A query with nothing valid gives zeros.
    """
    a = attributes
    query = split_heads(query_BNC, a.num_heads)
    per_group = a.num_heads // a.kv_num_heads
    key, value = (
        split_heads(x, a.kv_num_heads).repeat_interleave(per_group, dim=1) for x in (key_BMC, value_BMC)
    )
    output = query.new_zeros(*query.shape[:3], value.shape[-1])
    selection = torch.zeros(block_scores_BHQK.shape, dtype=torch.bool)
    batch, heads, query_blocks, key_blocks = block_scores_BHQK.shape
    block_of_key = torch.arange(key.shape[2]) // a.block_size
    for b, h, i in itertools.product(range(batch), range(heads), range(query_blocks)):
        mask = key_mask_BM[b]
        is_valid = torch.bincount(block_of_key[mask], minlength=key_blocks) > 0
        if a.is_causal:
            is_valid &= torch.arange(key_blocks) <= i
        kept = select_row(
            block_scores_BHQK[b, h, i],
            is_valid,
            i,
            window=a.window,
            top_p=float(top_p[h if len(top_p) > 1 else 0]),
            max_blocks=int(max_blocks),
        )
        selection[b, h, i] = kept
        tokens = torch.arange(query.shape[2])[i * a.block_size : (i + 1) * a.block_size]
        allowed = (mask & kept[block_of_key]).expand(len(tokens), -1)
        if a.is_causal:
            allowed = allowed & (torch.arange(key.shape[2]) <= tokens[:, None])
        dropped = (is_valid & ~kept).nonzero().flatten().tolist() if a.summaries else []
        members = [mask & (block_of_key == j) for j in dropped]
        output[b, h, tokens] = _attend(
            query[b, h, tokens] * a.scale, key[b, h], value[b, h], allowed, members
        )
    return merge_heads(output), selection


def select_row(
    scores_K: Tensor, is_valid_K: Tensor, row: int, *, window: int, top_p: float, max_blocks: int
) -> Tensor:
    """The blocks that one query block of one head keeps, bool [K]: rules 1 to 4 in order."""
    shares = _shares(scores_K, is_valid_K)
    valid = is_valid_K.tolist()
    kept = [valid[j] and abs(row - j) <= window for j in range(len(valid))]
    mass = sum(shares[j] for j in range(len(valid)) if kept[j])
    others = [j for j in range(len(valid)) if valid[j] and not kept[j]]
    for j in sorted(others, key=lambda j: (-shares[j], j)):
        # A `top_p` of NaN is not above 0.
        is_enough = not top_p > 0 or (top_p < 1 and mass >= top_p)
        if is_enough or sum(kept) >= max_blocks:
            break
        kept[j] = True
        mass += shares[j]
    return torch.tensor(kept, dtype=torch.bool)


def _shares(scores_K: Tensor, is_valid_K: Tensor) -> list[float]:
    """Softmax over the valid blocks in float32; all 0 where every valid score is minus infinity."""
    scores = scores_K.float().masked_fill(scores_K.isnan() | ~is_valid_K, -torch.inf)
    shares: list[float] = scores.clamp(max=torch.finfo(torch.float32).max).softmax(0).nan_to_num(0.0).tolist()
    return shares


def _attend(
    query_nD: Tensor, key_MD: Tensor, value_ME: Tensor, allowed_nM: Tensor, members: list[Tensor]
) -> Tensor:
    """One softmax over the allowed tokens and a summary token per dropped block, given as its members."""
    logits = (query_nD @ key_MD.mT).masked_fill(~allowed_nM, -torch.inf)
    for member in members:
        summary = query_nD @ key_MD[member].mean(0) + member.sum().to(query_nD.dtype).log()
        logits = torch.cat([logits, summary[:, None]], dim=1)
    values = torch.cat([value_ME, *(value_ME[member].mean(0, keepdim=True) for member in members)])
    # Rows with nothing valid are all NaN after the softmax; the contract says zeros.
    has_nothing = torch.isneginf(logits).all(-1, keepdim=True)
    return logits.softmax(-1).masked_fill(has_nothing, 0.0) @ values
