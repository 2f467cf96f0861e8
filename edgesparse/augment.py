"""Changes that a training window could have come with.

Only the circular shift is on by default. Noise of 2 % of a window's spread cost 6 points on ACSF1
(benchmarks/recipe.py --noise 0.02): the kernel bank's thresholds read fine structure that noise wipes out.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_in_time(window_BCT: Tensor, lengths_B: Tensor, largest: float) -> Tensor:
    """Rotate each series by up to `largest` of its length; padding stays where it is."""
    if largest <= 0:
        return window_BCT
    steps = torch.arange(window_BCT.shape[-1])
    reach = (lengths_B * largest).long()
    offset = (torch.rand(len(window_BCT)) * (2 * reach + 1)).long() - reach
    index = (steps + offset[:, None]) % lengths_B[:, None]
    index = torch.where(steps < lengths_B[:, None], index, steps)
    return window_BCT.gather(-1, index[:, None].expand(-1, window_BCT.shape[1], -1))


def add_noise(window_BCT: Tensor, level: float) -> Tensor:
    """White noise of `level` times each channel's spread."""
    if level <= 0:
        return window_BCT
    spread = window_BCT.nan_to_num().std(-1, keepdim=True)
    return window_BCT + level * spread * torch.randn_like(window_BCT)
