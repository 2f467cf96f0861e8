"""What a drop-in router learns from: what it scores blocks by, and where dense attention looked.

Everything is at block resolution, so thousands of tokens are a few kilobytes and a router is fitted in
seconds without running the model again.

Shapes: `B` windows, `H`/`G` query and key/value heads, `Q`/`K` query and key blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from edgesparse.attention.heads import merge_heads
from edgesparse.attention.selection import block_count, reachable_blocks, valid_blocks

if TYPE_CHECKING:
    from edgesparse.dropin.router import DropinRouter
    from edgesparse.dropin.sampled_router import SampledRouter


@dataclass(frozen=True)
class Observation:
    """One layer, some windows.

    Attributes:
        pooled: all that the router's scores depend on (its `pool`): queries [B, H, Q, D] and keys
            [B, G, K, 3*D], or the sampled mass [B, H, Q, K].
        mass: what dense attention of a query block gives to a key block: the root of the mean square over the
            block's real queries, [B, H, Q, K]; 0 in rows without real queries.
        reach: bool [B, 1, Q, K], valid pairs of blocks with real queries.
    """

    pooled: tuple[Tensor, ...]
    mass: Tensor
    reach: Tensor

    @property
    def blocks(self) -> int:
        """Query blocks of the longest window."""
        return self.mass.shape[2]


def make_observation(
    router: DropinRouter | SampledRouter,
    query_BHND: Tensor,
    key_BGND: Tensor,
    key_mask_BN: Tensor | None,
    *,
    scale: float,
    block_size: int,
) -> Observation:
    """What a layer received in one dense pass.

    The root mean square, not the mean: blocks chosen by it left the output closer to dense attention's
    (`python -m benchmarks.dropin.oracle`).
    """
    batch, heads, length, _ = query_BHND.shape
    with torch.no_grad():
        pooled = router.pool(merge_heads(query_BHND), merge_heads(key_BGND), key_mask_BN)
        key = key_BGND.repeat_interleave(heads // key_BGND.shape[1], dim=1)
        logits = query_BHND @ key.mT * scale
        mask = torch.ones(batch, length, dtype=torch.bool) if key_mask_BN is None else key_mask_BN
        allowed = mask[:, None, None, :]
        if router.is_causal:
            allowed = allowed & torch.ones(length, length, dtype=torch.bool).tril()
        weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0.0)
        blocks = block_count(length, block_size)
        rest = blocks * block_size - length
        mass = pad(weights, (0, rest)).view(batch, heads, length, blocks, block_size).sum(-1)
        real = pad(mask, (0, rest)).view(batch, 1, blocks, block_size, 1)
        squares = pad(mass, (0, 0, 0, rest)).view(batch, heads, blocks, block_size, blocks) ** 2 * real
        mean = squares.sum(3) / real.sum(3).clamp(min=1)
        valid = valid_blocks(mask, block_size)
        reach = reachable_blocks(valid, blocks, is_causal=router.is_causal) & valid[:, None, :, None]
    return Observation(pooled, mean.sqrt(), reach)


def join_observations(
    observations: Sequence[Observation], block_axes: Sequence[Sequence[int]] = ((2,), (2,))
) -> Observation:
    """All windows in one; shorter ones are filled up with blocks that nothing reaches.

    Args:
        block_axes: of the router that scores them, of each tensor in `pooled`.
    """
    blocks = max(observation.blocks for observation in observations)

    def fill(x: Tensor, *axes: int) -> Tensor:
        sides = [0, 0] * x.ndim
        for axis in axes:
            sides[2 * (x.ndim - 1 - axis) + 1] = blocks - x.shape[axis]
        return pad(x, sides)

    return Observation(
        tuple(
            torch.cat([fill(x.pooled[i], *axes) for x in observations]) for i, axes in enumerate(block_axes)
        ),
        torch.cat([fill(x.mass, 2, 3) for x in observations]),
        torch.cat([fill(x.reach, 2, 3) for x in observations]),
    )
