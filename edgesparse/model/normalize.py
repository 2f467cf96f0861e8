"""Raw windows to numbers a network can use, inside the model, so that the exported file does the same.

Shapes: `B` batch, `C` channels, `T` steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# A channel that never moves has spread 0; its normalized values are then 0 too.
SMALLEST_SPREAD = 1e-6
# The same as a share of the level: less than the step from one float32 number to the next is rounding.
SMALLEST_SHARE = 1e-7
# Level and scale of a window, in standard deviations over the training windows: beyond lies no information.
LARGEST_FEATURE = 4.0
# Of a channel's spread to its usual one: a broken sensor must not make its window's other channels vanish.
LARGEST_RATIO = 8.0


def is_missing(window_BCT: Tensor) -> Tensor:
    """NaN marks a missing value (isnan as an operator that every ONNX runtime has)."""
    return torch.isnan(window_BCT)


def real_steps(window_BCT: Tensor) -> Tensor:
    """False in the tail where every channel is missing (padding of a shorter series), bool [B, T]."""
    seen = (~is_missing(window_BCT)).any(1).float()
    # A step is real when a value is seen at it or after it.
    return seen.flip(-1).cumsum(-1).flip(-1) > 0


class Normalize(nn.Module):
    """Each window to mean 0 and spread 1; what that removes is given back as features.

    Several channels have one scale a window: which of them moves more than it usually does is a part of the
    signal, and a sensor that lies still is not blown up to the others' size. A channel's spread is therefore
    divided by its usual one, and by the root mean square of these ratios over the window's channels.

    Some classes live in the level or the scale of a signal. So mean and log spread of each channel are
    returned too, standardized over the training windows; a feature that is the same for all of them is 0.

    Args:
        is_joint: one scale a window; otherwise each channel has spread 1 by itself.
    """

    center: Tensor
    sharpness: Tensor
    usual: Tensor

    def __init__(self, channels: int, *, is_joint: bool = True) -> None:
        super().__init__()
        self.is_joint = is_joint and channels > 1
        if self.is_joint:
            # Geometric mean of each channel's spread over the training windows.
            self.register_buffer("usual", torch.ones(channels))
        self.register_buffer("center", torch.zeros(2 * channels))
        # One over the spread over the training windows; 0 switches a feature off.
        self.register_buffer("sharpness", torch.zeros(2 * channels))

    def forward(self, window_BCT: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized window [B, C, T] with missing values at 0, and features [B, 2*C]."""
        normal, features = self._split(window_BCT)
        standard = (features - self.center) * self.sharpness
        return normal, standard.clamp(-LARGEST_FEATURE, LARGEST_FEATURE)

    def level(self, window_BCT: Tensor) -> Tensor:
        """Mean and log spread of each channel, [B, 2*C], in the window's own units."""
        return self._split(window_BCT)[1]

    @torch.no_grad()
    def fit(self, windows_BCT: Tensor) -> None:
        """Learn what level and scale are usual."""
        features = self._split(windows_BCT)[1]
        if self.is_joint:
            log_spread = features.chunk(2, dim=1)[1]
            # A flat or missing channel tells nothing about its usual movement.
            moves = log_spread > math.log(2 * SMALLEST_SPREAD)
            total = log_spread.masked_fill(~moves, 0.0).sum(0)
            self.usual.copy_((total / moves.sum(0).clamp(min=1)).exp())
        self.center.copy_(features.mean(0))
        spread = features.std(0, correction=0)
        # On data normalized beforehand the features are rounding noise, and would be blown up.
        noise = 1e-3 * features.abs().mean(0) + 1e-4
        self.sharpness.copy_(torch.where(spread > noise, 1.0 / spread.clamp(min=1e-12), 0.0))

    def _split(self, window_BCT: Tensor) -> tuple[Tensor, Tensor]:
        missing = is_missing(window_BCT)
        centered, mean, count = self._center(window_BCT, missing)
        spread = ((centered * centered).sum(-1, keepdim=True) / count).sqrt()
        scale = self._joint_scale(spread, missing) if self.is_joint else spread
        normal = centered / torch.maximum(scale, SMALLEST_SHARE * mean.abs()).clamp(min=SMALLEST_SPREAD)
        features = torch.cat([mean, spread.clamp(min=SMALLEST_SPREAD).log()], dim=1)[..., 0]
        return normal, features

    def _joint_scale(self, spread_BC1: Tensor, missing_BCT: Tensor) -> Tensor:
        """Each channel's usual spread, times how much more than usual the window's channels move."""
        seen = ((~missing_BCT).sum(-1, keepdim=True) > 0).float()
        ratio = (spread_BC1 / self.usual[:, None]).clamp(max=LARGEST_RATIO)
        # A channel that is missing has spread 0.
        mean_square = (ratio * ratio).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1.0)
        return self.usual[:, None] * mean_square.sqrt()

    @staticmethod
    def _center(window_BCT: Tensor, missing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The window without its channels' means, missing values at 0; the means and counts [B, C, 1]."""
        filled = window_BCT.masked_fill(missing, 0.0)
        count = (~missing).sum(-1, keepdim=True).clamp(min=1)
        mean = filled.sum(-1, keepdim=True) / count
        centered = (window_BCT - mean).masked_fill(missing, 0.0)
        # Each engine rounds the mean in its own way, which would make noise of a flat window. What is left of
        # the mean in the centered values is taken off too.
        centered = (centered - centered.sum(-1, keepdim=True) / count).masked_fill(missing, 0.0)
        return centered, mean, count


class FixedNormalize(nn.Module):
    """Each channel by its mean and spread over the training windows: what a causal model does.

    A window's own mean would leak later steps to a token. Level and scale stay in the
    signal, so there is nothing to give back as features.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def forward(self, window_BCT: Tensor) -> tuple[Tensor, None]:
        """Normalized window [B, C, T] with missing values at 0, and no features."""
        normal = (window_BCT - self.center[:, None]) / self.spread[:, None]
        return normal.masked_fill(is_missing(window_BCT), 0.0), None

    @torch.no_grad()
    def fit(self, windows_BCT: Tensor) -> None:
        """Learn each channel's mean and spread over all steps that are not missing."""
        seen = ~is_missing(windows_BCT)
        values = windows_BCT.double().masked_fill(~seen, 0.0)
        count = seen.sum((0, 2)).clamp(min=1)
        mean = values.sum((0, 2)) / count
        centered = (values - mean[:, None]).masked_fill(~seen, 0.0)
        self.center.copy_(mean)
        self.spread.copy_(((centered**2).sum((0, 2)) / count).sqrt().clamp(min=SMALLEST_SPREAD))


class TrainingScale(nn.Module):
    """Each channel by its mean and spread over the training windows, as `FixedNormalize` has it.

    Level and scale of a window stay in the signal, and are given back as features as well.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fixed = FixedNormalize(channels)
        self.own = Normalize(channels, is_joint=False)

    def forward(self, window_BCT: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized window [B, C, T] with missing values at 0, and features [B, 2*C]."""
        features: Tensor = self.own(window_BCT)[1]
        return self.fixed(window_BCT)[0], features

    def fit(self, windows_BCT: Tensor) -> None:
        """Learn each channel's mean and spread, and what level and scale are usual."""
        self.fixed.fit(windows_BCT)
        self.own.fit(windows_BCT)
