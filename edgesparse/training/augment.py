"""Data augmentation: changes that a training window could have come with.

A circular shift of every window, and on some of them what sensors and machines do after training: noise,
drift, a gap, uneven speed, coarser sampling. The filter bank's thresholds read structure so fine that noise
of a twentieth of a window's spread wipes it out, and a model that never saw an augmented window relies on it
alone. But where fine structure tells classes apart it is worth several points of accuracy: most windows stay
as they are.

Everything random is drawn for the whole batch (edgesparse/training/parallel/processes.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Noise in standard deviations of the channel over the window; its strength is drawn on a logarithmic scale.
NOISE = (0.005, 0.1)
# A line from one end of the window to the other rises or falls by up to so many of them.
DRIFT = 1.0
# Longest gap, as a share of the window, and the share of channels it runs through.
GAP, GAP_CHANNELS = 0.3, 0.3
# One part of the window runs faster, the other slower, by up to this share.
SPEED = 0.2
# Steps that coarser sampling leaves out at most, as a share.
COARSE = 0.5


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


def augment(window_BCT: Tensor, lengths_B: Tensor, share: float) -> Tensor:
    """Change about `share` of the windows, each in one or several ways; the others stay as they are.

    Args:
        lengths_B: real steps of each window; padding after them is left alone.
    """
    if share <= 0:
        return window_BCT
    each = 1 - (1 - share) ** (1 / len(AUGMENTATIONS))
    for change in AUGMENTATIONS:
        rows = torch.nonzero(torch.rand(len(window_BCT)) < each)[:, 0]
        if len(rows):
            changed = change(window_BCT[rows], lengths_B[rows])
            window_BCT = window_BCT.index_copy(0, rows, changed)
    return window_BCT


def noise(window_BCT: Tensor, lengths_B: Tensor) -> Tensor:
    """White noise, one strength per window."""
    low, high = (math.log(strength) for strength in NOISE)
    strength = torch.exp(low + (high - low) * torch.rand(len(window_BCT), 1, 1))
    return window_BCT + strength * spread(window_BCT) * torch.randn(window_BCT.shape)


def drift(window_BCT: Tensor, lengths_B: Tensor) -> Tensor:
    """A straight line over the window, with its own slope per channel."""
    slope = DRIFT * (2 * torch.rand(*window_BCT.shape[:2], 1) - 1)
    line = _steps(window_BCT) / (lengths_B - 1).clamp(min=1)[:, None, None] - 0.5
    return window_BCT + slope * spread(window_BCT) * line


def gap(window_BCT: Tensor, lengths_B: Tensor) -> Tensor:
    """A stretch of missing values, in at least one channel."""
    batch, channels, _ = window_BCT.shape
    count = (torch.rand(batch) * GAP * lengths_B).long()
    start = (torch.rand(batch) * (lengths_B - count + 1)).long()
    steps = _steps(window_BCT)
    inside = (steps >= start[:, None, None]) & (steps < (start + count)[:, None, None])
    hit = torch.rand(batch, channels) < GAP_CHANNELS
    hit |= torch.arange(channels) == torch.randint(channels, (batch, 1))
    return window_BCT.masked_fill(inside & hit[..., None], torch.nan)


def uneven_speed(window_BCT: Tensor, lengths_B: Tensor) -> Tensor:
    """One part faster and the other slower, in the same number of steps."""
    last = (lengths_B - 1).clamp(min=1)[:, None]
    turn = 0.5 + SPEED * (torch.rand(len(window_BCT), 1) - 0.5)
    time = _steps(window_BCT) / last
    place = torch.where(time < turn, 0.5 * time / turn, 0.5 + 0.5 * (time - turn) / (1 - turn))
    return _as_padded(between(window_BCT, torch.minimum(place * last, last)), window_BCT, lengths_B)


def coarse(window_BCT: Tensor, lengths_B: Tensor) -> Tensor:
    """Sampled more slowly, and brought back to the same number of steps."""
    last = (lengths_B - 1).clamp(min=1)[:, None]
    slower = last / (last * (1 - COARSE * torch.rand(len(window_BCT), 1))).round().clamp(min=1)
    place = _steps(window_BCT) / slower
    low = place.floor()
    weight = (place - low)[:, None]
    before = between(window_BCT, torch.minimum(low * slower, last))
    after = between(window_BCT, torch.minimum((low + 1) * slower, last))
    return _as_padded(torch.where(weight > 0, before.lerp(after, weight), before), window_BCT, lengths_B)


AUGMENTATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (noise, drift, gap, uneven_speed, coarse)


def _steps(window_BCT: Tensor) -> Tensor:
    return torch.arange(window_BCT.shape[-1], dtype=window_BCT.dtype)


def spread(window_BCT: Tensor) -> Tensor:
    """Standard deviation of each channel over its values, [B, C, 1]."""
    missing = torch.isnan(window_BCT)
    count = (~missing).sum(-1, keepdim=True).clamp(min=1)
    mean = window_BCT.masked_fill(missing, 0.0).sum(-1, keepdim=True) / count
    centered = (window_BCT - mean).masked_fill(missing, 0.0)
    return ((centered * centered).sum(-1, keepdim=True) / count).sqrt()


def between(window_BCT: Tensor, place_BT: Tensor) -> Tensor:
    """Values at places between steps, on the straight line from one to the next."""
    low = place_BT.floor().clamp(0, window_BCT.shape[-1] - 1)
    weight = (place_BT - low)[:, None]
    index = low.long()[:, None].expand(-1, window_BCT.shape[1], -1)
    before = window_BCT.gather(-1, index)
    after = window_BCT.gather(-1, (index + 1).clamp(max=window_BCT.shape[-1] - 1))
    # Where the place is a step, its neighbor, which may be missing, has no say.
    return torch.where(weight > 0, before.lerp(after, weight), before)


def _as_padded(changed_BCT: Tensor, window_BCT: Tensor, lengths_B: Tensor) -> Tensor:
    """The change within each window's real steps."""
    return torch.where(_steps(window_BCT) < lengths_B[:, None, None], changed_BCT, window_BCT)
