"""The skip: fixed features of a whole window and one linear map to the outputs, fitted in closed form.

What the transformer adds to, and with `layers=0` a model by itself. The features are the filter bank's
shares of the window and of its smoothed differences, pooled over the window, competing filters on both, and
level and scale of both. They are standardized over the training windows and bounded, so that a window unlike
any of them cannot move the scores without limit. `edgesparse.closed_form.ridge` fits the map.

Shapes: `B` batch, `C` channels, `T` steps, `N` tokens, `F` features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, linear, pad

from edgesparse.model.competing_filters import GROUPS, CompetingFilters
from edgesparse.model.filter_bank import FilterBank, mean_over_tokens
from edgesparse.model.normalize import Normalize

# Steps that differences are averaged over where nothing else is chosen: of noise a fifth is left.
SMOOTHED = 5
# A share of a few steps in a thousand is rare, however few: its root must not be steep there.
LEAST_SHARE = 1e-3
# Standard deviations over the training windows that a feature counts to.
LARGEST_FEATURE = 8.0


class Skip(nn.Module):
    """Logits or standardized targets [B, outputs] from fixed features.

    Args:
        bank: the model's own filter bank, whose shape the one on differences has.
        joint_scale: of the differences' channels, as of the window's.
        groups: of competing filters per dilation.
        smoothed: steps that the differences are averaged over.
    """

    center: Tensor
    sharpness: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        bank: FilterBank,
        *,
        channels: int,
        outputs: int,
        joint_scale: bool,
        groups: int = GROUPS,
        smoothed: int = SMOOTHED,
    ) -> None:
        super().__init__()
        self.smoothed = smoothed
        self.normalize = Normalize(channels, is_joint=joint_scale)
        filters, thresholds = bank.threshold.shape[1:]
        self.bank = FilterBank(
            channels, filters=filters, dilations=bank.dilations, thresholds=thresholds, patch=bank.patch
        )
        self.compete = CompetingFilters(channels, dilations=bank.dilations, groups=groups, seed=1)
        self.compete_differences = CompetingFilters(channels, dilations=bank.dilations, groups=groups, seed=2)
        self.features = 2 * bank.features + 2 * self.compete.features + 4 * channels
        self.register_buffer("center", torch.zeros(self.features))
        self.register_buffer("sharpness", torch.zeros(self.features))
        self.register_buffer("weight", torch.zeros(outputs, self.features))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(
        self, normal_BCT: Tensor, real_BT: Tensor | None, shares_BFN: Tensor, level: Tensor
    ) -> Tensor:
        """[B, outputs].

        Args:
            normal_BCT: the normalized window.
            real_BT: bool, false = padding; None = every step is real.
            shares_BFN: the model's filter bank on it.
            level: what normalization removed.
        """
        return self.from_raw(self.raw(normal_BCT, real_BT, shares_BFN, level))

    def from_raw(self, raw_BF: Tensor) -> Tensor:
        """Outputs of features in their own units."""
        return linear(self.standardized(raw_BF), self.weight, self.bias)

    def raw(self, normal_BCT: Tensor, real_BT: Tensor | None, shares_BFN: Tensor, level: Tensor) -> Tensor:
        """Features [B, F] in their own units."""
        differences, difference_level = self._differences(normal_BCT, real_BT)
        on_differences = self.bank(differences, real_BT)
        competing = [self.compete(normal_BCT, real_BT), self.compete_differences(differences, real_BT)]
        return torch.cat(
            [
                mean_over_tokens(shares_BFN, real_BT, self.bank.patch),
                mean_over_tokens(on_differences, real_BT, self.bank.patch),
                # The root makes the many small shares differ more, as counts do that have equal noise.
                (torch.cat(competing, dim=1).clamp(min=0.0) + LEAST_SHARE).sqrt(),
                level,
                difference_level,
            ],
            dim=1,
        )

    def standardized(self, raw_BF: Tensor) -> Tensor:
        """Features over the training windows' spread, bounded."""
        return ((raw_BF - self.center) * self.sharpness).clamp(-LARGEST_FEATURE, LARGEST_FEATURE)

    @torch.no_grad()
    def fit_stem(self, normal_BCT: Tensor, real_BT: Tensor | None) -> None:
        """Learn the differences' normalization, thresholds and ramps from normalized training windows."""
        self.normalize.fit(smoothed_differences(normal_BCT, real_BT, self.smoothed))
        differences = self._differences(normal_BCT, real_BT)[0]
        self.bank.fit(differences, real_BT)
        self.compete.fit(normal_BCT, real_BT)
        self.compete_differences.fit(differences, real_BT)

    def _differences(self, normal_BCT: Tensor, real_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        normal, level = self.normalize(smoothed_differences(normal_BCT, real_BT, self.smoothed))
        return normal, level


def smoothed_differences(normal_BCT: Tensor, real_BT: Tensor | None, smoothed: int = SMOOTHED) -> Tensor:
    """From each step to the next, averaged over `smoothed` of them; NaN at padding."""
    steps = pad(normal_BCT[..., 1:] - normal_BCT[..., :-1], (1, 0))
    if real_BT is not None:
        # The step into the padding is none.
        steps = steps * real_BT[:, None]
    smooth = avg_pool1d(steps, smoothed, 1, smoothed // 2) if smoothed > 1 else steps
    return smooth if real_BT is None else smooth.masked_fill(~real_BT[:, None], torch.nan)
