"""Relative block selection: the key blocks a query block attends to (docs/reference/operator.md, Selection).

Shapes: `B` batch, `H` heads, `Q` query blocks, `K` key blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def block_count(length: int, block_size: int) -> int:
    """Number of blocks that hold `length` tokens; a last short block counts."""
    # Not -(-length // block_size): the exporter turns // into a division that rounds toward zero.
    return (length + block_size - 1) // block_size


def valid_blocks(key_mask_BM: Tensor, block_size: int) -> Tensor:
    """Key blocks with at least one unmasked token, bool [B, K]."""
    return valid_counts(key_mask_BM, block_size) > 0


def valid_counts(key_mask_BM: Tensor, block_size: int) -> Tensor:
    """Number of unmasked tokens per key block, int64 [B, K]."""
    batch, length = key_mask_BM.shape
    blocks = block_count(length, block_size)
    padded = torch.nn.functional.pad(key_mask_BM, (0, blocks * block_size - length))
    return padded.view(batch, blocks, block_size).sum(-1)


def reachable_blocks(valid_BK: Tensor, query_blocks: int, *, is_causal: bool) -> Tensor:
    """Valid key blocks per query block, bool [B, 1, Q, K]: causal attention sees blocks `j <= i` only."""
    reach = valid_BK[:, None, None, :].expand(-1, 1, query_blocks, -1)
    if is_causal:
        reach = (
            reach
            & torch.ones(query_blocks, valid_BK.shape[1], dtype=torch.bool, device=valid_BK.device).tril()
        )
    return reach


def select_blocks(
    block_scores_BHQK: Tensor,
    top_p_H: Tensor,
    max_blocks: Tensor,
    reach_B1QK: Tensor,
    *,
    window: int,
) -> Tensor:
    """Keep the window, then blocks by falling share until `top_p` of the mass or `max_blocks` is reached.

    Args:
        block_scores_BHQK: the router's scores; NaN counts as minus infinity.
        top_p_H: float [H] or [1]; 1 and more keeps all that `max_blocks` allows, 0 and NaN the window.
        max_blocks: int64 [1].
        reach_B1QK: bool, the blocks that may be attended to.
        window: blocks on each side that are always kept.

    Returns:
        bool [B, H, Q, K], true = attended. Ties go to the lower index.
    """
    order, kept = ordered_selection(block_scores_BHQK, top_p_H, max_blocks, reach_B1QK, window=window)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def ordered_selection(
    block_scores_BHQK: Tensor,
    top_p_H: Tensor,
    max_blocks: Tensor,
    reach_B1QK: Tensor,
    *,
    window: int,
) -> tuple[Tensor, Tensor]:
    """The selection in visiting order: block indices [B, H, Q, K] and whether each is kept.

    The kept ones come first, so a prefix as long as the largest count holds them all.
    """
    query_blocks, key_blocks = block_scores_BHQK.shape[-2:]
    share = block_shares(block_scores_BHQK, reach_B1QK)
    rows = torch.arange(query_blocks, device=share.device)[:, None]
    columns = torch.arange(key_blocks, device=share.device)[None, :]
    in_window = ((rows - columns).abs() <= window) & reach_B1QK
    # Shares are at most 1: adding 2 puts the window in front, -1 puts the unreachable last.
    priority = torch.where(reach_B1QK, share + 2.0 * in_window, -1.0)
    order = priority.argsort(dim=-1, descending=True, stable=True)
    ordered_share = share.gather(-1, order)
    ordered_window = in_window.expand_as(share).gather(-1, order)
    ordered_reach = reach_B1QK.expand_as(share).gather(-1, order)
    mass_before = ordered_share.cumsum(-1) - ordered_share
    rank = torch.arange(key_blocks, device=share.device)
    wanted = (mass_before < top_p_H[:, None, None]) | (top_p_H[:, None, None] >= 1)
    # `top_p` of 0, below 0 or NaN keeps the window alone, also where the mass before is 0.
    wanted = wanted & (top_p_H[:, None, None] > 0)
    kept = ordered_reach & (ordered_window | (wanted & (rank < max_blocks)))
    return order, kept


def block_shares(block_scores_BHQK: Tensor, reach_B1QK: Tensor) -> Tensor:
    """Softmax of the scores over reachable blocks; rows with nothing to reach are 0."""
    largest = torch.finfo(block_scores_BHQK.dtype).max
    scores = torch.nan_to_num(block_scores_BHQK, nan=-torch.inf, posinf=largest, neginf=-torch.inf)
    scores = scores.masked_fill(~reach_B1QK, -torch.inf)
    return torch.nan_to_num(scores.softmax(-1), nan=0.0)
