"""Windows of unequal length stretched to one: the same movement, faster or slower, is then the same.

Where classes differ in tempo this does harm, so training chooses it by leave-one-out.

Shapes: `B` batch, `C` channels, `T` steps of the longest window, `S` steps of all after it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stretch(window_BCT: Tensor, real_BT: Tensor, steps: int) -> Tensor:
    """Windows [B, C, S], on the line between neighboring steps; NaN = missing.

    Next to a missing value the other neighbor holds.

    Args:
        real_BT: bool, false = padding behind the window's end.
        steps: S.
    """
    last = (real_BT.float().sum(1, keepdim=True) - 1.0).clamp(min=0.0)
    place = torch.linspace(0.0, 1.0, steps) * last
    before = place.floor()
    share = (place - before)[:, None]
    after = torch.minimum(before + 1.0, last)
    low, high = (
        torch.gather(window_BCT, 2, at.long()[:, None].expand(-1, window_BCT.shape[1], -1))
        for at in (before, after)
    )
    low = torch.where(torch.isnan(low), high, low)
    high = torch.where(torch.isnan(high), low, high)
    return low + share * (high - low)
