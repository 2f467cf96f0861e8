"""The router: scores each query block for each key block at block resolution, so it costs next to nothing.

`s_ij = <Rq . mean(q_i), Rk . [mean; max; min](k_j)>` a head (DESIGN section 4). It starts as pooled
query-key similarity (MoBA) and is taught the true block mass of dense attention (SeerAttention); max and
min let it see spikes that a mean hides (Quest).

Shapes: `B` batch, `H` query heads, `G` key/value heads, `D` head size, `Q`/`K` query and key blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesparse.attention_reference import block_means
from edgesparse.selection import block_count, valid_counts


class Router(nn.Module):
    """Learned block scores from pooled queries and keys."""

    def __init__(self, heads: int, groups: int, head_size: int, block_size: int, *, is_causal: bool) -> None:
        super().__init__()
        self.block_size = block_size
        self.is_causal = is_causal
        self.group_size = heads // groups
        identity = torch.eye(head_size)
        self.query_weight = nn.Parameter(identity.repeat(heads, 1, 1) * head_size**-0.5)
        self.key_weight = nn.Parameter(
            torch.cat([identity, torch.zeros(2 * head_size, head_size)]).repeat(groups, 1, 1)
        )

    def forward(self, query_BHND: Tensor, key_BGMD: Tensor, key_mask_BM: Tensor | None) -> Tensor:
        """Block scores [B, H, Q, K].

        Causal: a token may not choose its blocks by looking at tokens after it in its own block. So query
        block `i` is scored by the pooled query of block `i - 1`, and its own block, which the window keeps
        anyway, gets minus infinity: its pooled key must not sway the other blocks' shares.
        """
        # In self-attention the padding of keys is the padding of queries.
        query_mask = key_mask_BM if query_BHND.shape[2] == key_BGMD.shape[2] else None
        query = self.pool_mean(query_BHND, query_mask)
        if self.is_causal:
            query = torch.nn.functional.pad(query[:, :, :-1], (0, 0, 1, 0))
        key = torch.cat(
            [self.pool_mean(key_BGMD, key_mask_BM), *self.pool_extremes(key_BGMD, key_mask_BM)], dim=-1
        )
        query, key = query @ self.query_weight, key @ self.key_weight
        if self.group_size > 1:
            key = key.repeat_interleave(self.group_size, dim=1)
        scores = query @ key.mT
        if self.is_causal:
            index = torch.arange(scores.shape[-1], device=scores.device)
            scores = scores.masked_fill(index[:, None] == index, -torch.inf)
        return scores

    def pool_mean(self, x_BHMD: Tensor, mask_BM: Tensor | None) -> Tensor:
        """Mean over a block's unmasked tokens, [B, H, K, D]."""
        if mask_BM is None:
            mask_BM = torch.ones_like(x_BHMD[:, 0, :, 0], dtype=torch.bool)
        return block_means(x_BHMD, mask_BM, self.block_size)

    def pool_extremes(self, x_BHMD: Tensor, mask_BM: Tensor | None) -> tuple[Tensor, Tensor]:
        """Largest and smallest value over a block's unmasked tokens, [B, H, K, D] each; 0 if empty."""
        batch, heads, length, size = x_BHMD.shape
        blocks = block_count(length, self.block_size)
        if mask_BM is None:
            mask_BM = torch.ones_like(x_BHMD[:, 0, :, 0], dtype=torch.bool)
        hidden = ~mask_BM[:, None, :, None]
        pad = (0, 0, 0, blocks * self.block_size - length)

        def pool(fill: float) -> Tensor:
            x = torch.nn.functional.pad(x_BHMD.masked_fill(hidden, fill), pad, value=fill)
            return x.view(batch, heads, blocks, self.block_size, size)

        empty = (valid_counts(mask_BM, self.block_size) == 0)[:, None, :, None]
        largest = pool(-torch.inf).amax(3).masked_fill(empty, 0.0)
        smallest = pool(torch.inf).amin(3).masked_fill(empty, 0.0)
        return largest, smallest


def true_block_mass(
    query_BHND: Tensor,
    key_BGMD: Tensor,
    query_block_index: Tensor,
    key_mask_BM: Tensor,
    *,
    block_size: int,
    scale: float,
    is_causal: bool,
) -> Tensor:
    """Share of dense attention that falls on each key block, for some query blocks: the router's teacher.

    Args:
        query_block_index: int64 [n], the sampled query blocks; only whole blocks may be sampled.

    Returns:
        [B, H, n, K], each row summing to 1 (0 where nothing is valid).
    """
    batch, heads = query_BHND.shape[:2]
    keys = key_BGMD.shape[2]
    key_blocks = block_count(keys, block_size)
    tokens = (query_block_index[:, None] * block_size + torch.arange(block_size)).flatten()
    query = query_BHND[:, :, tokens]
    key = key_BGMD.repeat_interleave(heads // key_BGMD.shape[1], dim=1)
    allowed = key_mask_BM[:, None, None, :]
    if is_causal:
        allowed = allowed & (torch.arange(keys) <= tokens[:, None])
    weights = (query @ key.mT * scale).masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0.0)
    weights = torch.nn.functional.pad(weights, (0, key_blocks * block_size - keys))
    return weights.view(batch, heads, -1, block_size, key_blocks, block_size).mean(3).sum(-1)


def router_loss(block_scores_BHnK: Tensor, mass_BHnK: Tensor, reach_B1nK: Tensor) -> Tensor:
    """KL divergence of the router's shares from the true block mass, mean over rows.

    Blocks that the router scores minus infinity (its own, when causal) are left out on both sides.
    """
    mass_BHnK = mass_BHnK.masked_fill(torch.isneginf(block_scores_BHnK), 0.0)
    mass_BHnK = mass_BHnK / mass_BHnK.sum(-1, keepdim=True).clamp(min=1e-9)
    block_scores_BHnK = block_scores_BHnK.clamp(min=torch.finfo(torch.float32).min)
    log_share = block_scores_BHnK.masked_fill(~reach_B1nK, torch.finfo(torch.float32).min).log_softmax(-1)
    log_mass = mass_BHnK.clamp(min=1e-9).log()
    return (mass_BHnK * (log_mass - log_share.clamp(min=-50.0))).sum(-1).mean()
