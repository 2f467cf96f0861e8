"""Fits a model's skip to labeled windows: features once, then one closed form.

Each window counts a second time, weakly, with noise of a twentieth of its spread: the features read structure
so fine that such noise wipes it out, and a map that never saw it relies on that structure alone. At this
weight it costs windows without noise nothing.

Shapes: `n` series, `F` features, `K` outputs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from edgesparse.closed_form.ridge import Ridge, fit_ridge
from edgesparse.config import RunConfig
from edgesparse.model.skip import Skip
from edgesparse_runtime.errors import InputError

NOISE, NOISE_WEIGHT = 0.05, 0.03
# Beyond this many series the closed form takes minutes and more of them hardly help: a part is used. So many
# for as many features; the fewer features, the more.
MOST_SERIES = 4096
LEAST_SPREAD = 1e-5


@dataclass(frozen=True)
class SkipReport:
    """What was fitted.

    Attributes:
        features: of the skip.
        series: that it was fitted to.
        shrinkage: chosen by leave-one-out.
        loss: leave-one-out log loss, or mean squared error of standardized targets.
        left_out: the metric of every series by the map that the others give.
        tried: answers to what was open about the features, each with its loss (`edgesparse.training.stem`).
    """

    features: int
    series: int
    shrinkage: float
    loss: float
    left_out: dict[str, object]
    tried: list[dict[str, object]] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@torch.no_grad()
def fit_skip(
    skip: Skip, clean_nF: Tensor, noisy_nF: Tensor, targets_n: Tensor, classes: int
) -> tuple[Tensor, Ridge, int]:
    """Fit the map of a skip whose stem is fitted.

    Args:
        clean_nF: features of the training windows in their own units, and
        noisy_nF: of the windows with noise.
        targets_n: class numbers, or with `classes` 0 numbers.

    Returns:
        Outputs [n, K] of every series by the map without it, what was fitted, and to how many series.
    """
    n = len(clean_nF)
    most = max(MOST_SERIES, MOST_SERIES**3 // skip.features**2)
    chosen = torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).long()
    versions = torch.stack([clean_nF[chosen], noisy_nF[chosen]])
    standardized = standardize(skip, versions)
    found = fit_ridge(standardized, targets_n[chosen], classes, (1.0, NOISE_WEIGHT))
    skip.weight.copy_(found.weight)
    skip.bias.copy_(found.bias)
    # A series that the map was not fitted to is left out as it is.
    left_out = skip.standardized(clean_nF) @ skip.weight.mT + skip.bias
    left_out[chosen] = found.left_out
    return left_out, found, len(chosen)


def standardize(skip: Skip, versions: Tensor) -> Tensor:
    """Set the skip's center and spread by series as they are and with noise; their standardized features."""
    weights = torch.tensor([1.0, NOISE_WEIGHT])[:, None, None] / (1.0 + NOISE_WEIGHT)
    center = (weights * versions).sum(0).mean(0)
    deviation = ((versions - center).square() * weights).sum(0).mean(0).sqrt()
    skip.center.copy_(center)
    # A feature that is the same for all windows is off.
    skip.sharpness.copy_(torch.where(deviation > LEAST_SPREAD, 1.0 / deviation.clamp(min=LEAST_SPREAD), 0.0))
    return torch.stack([skip.standardized(version) for version in versions])


def check_skip(config: RunConfig) -> None:
    """Raise InputError for settings that do not go with a skip."""
    if not config.model.has_skip:
        return
    if config.training.task == "forecasting":
        raise InputError(
            "`stem` must be 1 for forecasting: a forecaster has a linear part of its own. Use model.stem=1."
        )
    if config.training.consistency_weight:
        raise InputError(
            f"`consistency_weight` must be 0 with the skip; got {config.training.consistency_weight:g}."
        )
    if config.model.layers == 0 and config.training.auxiliary_weight:
        raise InputError("`auxiliary_weight` must be 0 without layers: nothing reconstructs masked spans.")
