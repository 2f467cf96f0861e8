"""The router: scores each query block for each key block at block resolution, so it costs next to nothing.

`s_ij = <Rq . mean(q_i), Rk . [mean; max; min](k_j)>` per head (DESIGN section 4). It starts as pooled
query-key similarity (MoBA) and is fitted to the true block mass of dense attention (SeerAttention); max and
min let it see spikes that a mean hides (Quest).

Shapes: `B` batch, `H` query heads, `G` key/value heads, `D` head size, `Q`/`K` query and key blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesparse.attention.selection import block_count


class Router(nn.Module):
    """Learned block scores from pooled queries and keys."""

    def __init__(self, heads: int, groups: int, head_size: int, block_size: int, *, is_causal: bool) -> None:
        super().__init__()
        self.block_size = block_size
        self.is_causal = is_causal
        self.heads = heads
        self.groups = groups
        identity = torch.eye(head_size)
        self.query_weight = nn.Parameter(identity.repeat(heads, 1, 1) * head_size**-0.5)
        self.key_weight = nn.Parameter(
            torch.cat([identity, torch.zeros(2 * head_size, head_size)]).repeat(groups, 1, 1)
        )

    def forward(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> Tensor:
        """Block scores [B, H, Q, K] of packed queries [B, N, H*D] and keys [B, N, G*D].

        Pooling happens on the packed layout, where a block is a view: in the exported graph the router
        then costs two padded copies and no transpose of a full-length tensor.

        Causal: a token may not choose its blocks by looking at later tokens of the same block. So query block
        `i` is scored by the pooled query of block `i - 1`, and the diagonal block, which the window keeps
        anyway, gets minus infinity: its pooled key must not sway the other blocks' shares.
        """
        query = self._to_heads(self._pool(query_BNC, key_mask_BN)[0], self.heads)
        if self.is_causal:
            query = torch.nn.functional.pad(query[:, :, :-1], (0, 0, 1, 0))
        pooled = self._pool(key_BNC, key_mask_BN, with_extremes=True)
        key = torch.cat([self._to_heads(x, self.groups) for x in pooled], dim=-1)
        query, key = query @ self.query_weight, key @ self.key_weight
        if self.groups != self.heads:
            key = key.repeat_interleave(self.heads // self.groups, dim=1)
        scores = query @ key.mT
        if self.is_causal:
            index = torch.arange(scores.shape[-1], device=scores.device)
            scores = scores.masked_fill(index[:, None] == index, -torch.inf)
        return scores

    def _pool(
        self, x_BNC: Tensor, mask_BN: Tensor | None, *, with_extremes: bool = False
    ) -> tuple[Tensor, ...]:
        """Mean and, with extremes, largest and smallest value over a block's real tokens: [B, K, C] each.

        A block without real tokens gives 0.
        """
        batch, length, width = x_BNC.shape
        blocks = block_count(length, self.block_size)
        if mask_BN is None:
            return self._pool_whole(x_BNC, blocks, with_extremes=with_extremes)
        rest = blocks * self.block_size - length
        x = torch.nn.functional.pad(x_BNC, (0, 0, 0, rest)).view(batch, blocks, self.block_size, width)
        real = torch.nn.functional.pad(mask_BN, (0, rest)).view(batch, blocks, self.block_size, 1)
        x = x.masked_fill(~real, 0.0)
        counts = real.sum(2)
        mean = x.sum(2) / counts.clamp(min=1)
        if not with_extremes:
            return (mean,)
        empty = counts == 0
        largest = x.masked_fill(~real, -torch.inf).amax(2).masked_fill(empty, 0.0)
        smallest = x.masked_fill(~real, torch.inf).amin(2).masked_fill(empty, 0.0)
        return mean, largest, smallest

    def _pool_whole(self, x_BNC: Tensor, blocks: int, *, with_extremes: bool) -> tuple[Tensor, ...]:
        """`_pool` without padding: the last block, which may be short, is pooled apart.

        Masks would be tensors of full length in the exported graph; without them the router takes half the
        time.
        """
        batch, _, width = x_BNC.shape
        whole = (blocks - 1) * self.block_size
        body, last = x_BNC[:, :whole], x_BNC[:, whole:]
        body = body.reshape(batch, blocks - 1, self.block_size, width)
        mean = torch.cat([body.mean(2), last.mean(1, keepdim=True)], dim=1)
        if not with_extremes:
            return (mean,)
        largest = torch.cat([body.amax(2), last.amax(1, keepdim=True)], dim=1)
        smallest = torch.cat([body.amin(2), last.amin(1, keepdim=True)], dim=1)
        return mean, largest, smallest

    @staticmethod
    def _to_heads(x_BKC: Tensor, heads: int) -> Tensor:
        """[B, K, H*D] -> [B, H, K, D]."""
        batch, blocks, width = x_BKC.shape
        return x_BKC.view(batch, blocks, heads, width // heads).transpose(1, 2)


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
    """Share of dense attention that falls on each key block, for some query blocks: the router's target.

    Args:
        query_block_index: int64 [n], the sampled query blocks; only whole blocks may be sampled.

    Returns:
        [B, H, n, K], each row summing to 1 (0 where nothing is valid).
    """
    batch, heads = query_BHND.shape[:2]
    keys = key_BGMD.shape[2]
    key_blocks = block_count(keys, block_size)
    tokens = (query_block_index[:, None] * block_size + torch.arange(block_size)).flatten()
    query = query_BHND[:, :, tokens] * scale
    key = key_BGMD.repeat_interleave(heads // key_BGMD.shape[1], dim=1)
    logits = query @ key.mT
    if is_causal:
        logits = logits.masked_fill(torch.arange(keys) > tokens[:, None], -torch.inf)
    if bool(key_mask_BM.all()):
        weights = logits.softmax(-1)
    else:
        hidden = ~key_mask_BM[:, None, None, :]
        weights = logits.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num(0.0)
    weights = torch.nn.functional.pad(weights, (0, key_blocks * block_size - keys))
    return weights.view(batch, heads, -1, block_size, key_blocks, block_size).mean(3).sum(-1)


def router_loss(block_scores_BHnK: Tensor, mass_BHnK: Tensor, reach_B1nK: Tensor) -> Tensor:
    """KL divergence of the router's shares from the true block mass, mean over rows.

    Blocks that the router scores minus infinity (the diagonal one, when causal) are left out on both sides.
    """
    mass_BHnK = mass_BHnK.masked_fill(torch.isneginf(block_scores_BHnK), 0.0)
    mass_BHnK = mass_BHnK / mass_BHnK.sum(-1, keepdim=True).clamp(min=1e-9)
    block_scores_BHnK = block_scores_BHnK.clamp(min=torch.finfo(torch.float32).min)
    log_share = block_scores_BHnK.masked_fill(~reach_B1nK, torch.finfo(torch.float32).min).log_softmax(-1)
    log_mass = mass_BHnK.clamp(min=1e-9).log()
    return (mass_BHnK * (log_mass - log_share.clamp(min=-50.0))).sum(-1).mean()
