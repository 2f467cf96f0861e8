"""Groups of random filters that compete at every step: which one answers most, which least, how strongly.

The features are those of Hydra (Dempster et al. 2023): filters of length 9 drawn from a normal distribution,
in groups of eight; per filter, the share of steps at which it has its group's largest response, the sum of
those responses, and the share at which it has the smallest. There, one filter wins a step; here those close
behind the winner count in part, over a short ramp, so that a small change of the input is a small change of
the feature, in every engine. Nothing here is trained but the ramps' width.

Shapes: `B` batch, `C` channels, `T` steps, `L` dilations, `G` groups, `K` filters of a group, and features
`F = 3 * L * G * K`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from edgesparse.model.filter_bank import CACHED, LENGTH

GROUP = 8
GROUPS = 16
# Width of the ramp behind the winner, in standard deviations of the group's responses.
RAMP = 0.03
# Channels that one group listens to, at most.
MOST_CHANNELS = 9
# Windows of a batch that the width is fitted on at a time.
ROWS = 16


class CompetingFilters(nn.Module):
    """Features [B, F] of normalized windows.

    Per dilation come the winners' responses [G * K], the winners' shares and the losers' shares.

    Args:
        seed: of the filters.
    """

    weight: Tensor
    sharpness: Tensor

    def __init__(self, channels: int, *, dilations: tuple[int, ...], groups: int = GROUPS, seed: int) -> None:
        super().__init__()
        self.dilations, self.groups = dilations, groups
        self.features = 3 * len(dilations) * groups * GROUP
        generator = torch.Generator().manual_seed(seed)
        drawn = [_draw(groups, channels, generator) for _ in dilations]
        self.register_buffer("weight", torch.stack(drawn))
        # One over the width of the ramp.
        self.register_buffer("sharpness", torch.ones(len(dilations), groups))

    def forward(self, normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        """[B, F].

        Args:
            real_BT: bool, false = padding; None = every step is real.
        """
        if torch.is_grad_enabled() and normal_BCT.requires_grad:
            return self._compete(normal_BCT, real_BT)
        rows = max(1, CACHED // (self.groups * GROUP * normal_BCT.shape[2]))
        parts = []
        for start in range(0, len(normal_BCT), rows):
            part = slice(start, start + rows)
            parts.append(self._compete(normal_BCT[part], None if real_BT is None else real_BT[part]))
        return torch.cat(parts)

    @torch.no_grad()
    def fit(self, normal_BCT: Tensor, real_BT: Tensor | None) -> None:
        """Choose the ramps' width from normalized training windows."""
        count = torch.zeros(())
        square = torch.zeros_like(self.sharpness)
        for start in range(0, len(normal_BCT), ROWS):
            part = slice(start, start + ROWS)
            real = torch.ones_like(normal_BCT[part, 0]) if real_BT is None else real_BT[part].float()
            count += real.sum()
            for i, response in enumerate(self._responses(normal_BCT[part])):
                square[i] += (response.square() * real[:, None, None]).sum((0, 2, 3)) / GROUP
        self.sharpness.copy_(1.0 / (RAMP * (square / count).sqrt()).clamp(min=1e-6))

    def _responses(self, normal_BCT: Tensor) -> list[Tensor]:
        """[B, G, K, T] per dilation."""
        found = []
        for weight, dilation in zip(self.weight, self.dilations, strict=True):
            response = conv1d(normal_BCT, weight, dilation=dilation, padding=dilation * (LENGTH // 2))
            found.append(response.view(len(response), self.groups, GROUP, -1))
        return found

    def _compete(self, normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        real = torch.ones_like(normal_BCT[:, :1]) if real_BT is None else real_BT[:, None].float()
        share = real / real.sum(-1, keepdim=True).clamp(min=1.0)
        parts = []
        for response, sharpness in zip(self._responses(normal_BCT), self.sharpness, strict=True):
            scaled = response * sharpness[:, None, None]
            most, least = scaled.amax(2, keepdim=True), scaled.amin(2, keepdim=True)
            wins = (scaled - most + 1.0).clamp(min=0.0)
            loses = (least - scaled + 1.0).clamp(min=0.0)
            for counted in (wins * most, wins, loses):
                parts.append((counted * share[:, None]).sum(-1).flatten(1))
        return torch.cat(parts, dim=1)


def _draw(groups: int, channels: int, generator: torch.Generator) -> Tensor:
    """Filters [G * K, C, 9] of mean 0 and absolute sum 1; those of a group share 1 to 9 random channels.

    Their number is drawn as MiniRocket draws it: each power of two as often as the next.
    """
    filters = torch.randn(groups, GROUP, 1, LENGTH, generator=generator)
    filters -= filters.mean(-1, keepdim=True)
    filters /= filters.abs().sum(-1, keepdim=True)
    most = torch.log2(torch.tensor(min(channels, MOST_CHANNELS) + 0.999))
    counts = (2.0 ** (torch.rand(groups, generator=generator) * most)).long()
    uses = torch.zeros(groups, channels)
    for group, count in zip(uses, counts.tolist(), strict=True):
        group[torch.randperm(channels, generator=generator)[:count]] = 1.0
    return (filters * uses[:, None, :, None]).flatten(0, 1)
