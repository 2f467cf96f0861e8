"""Fits a model's skip to labeled windows: features once, then one closed form.

Each window counts a second time, weakly, with noise of a twentieth of its spread: the features read structure
so fine that such noise wipes it out, and a map that never saw it relies on that structure alone. At this
weight it costs windows without noise nothing.

Shapes: `n` series, `F` features, `K` outputs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from edgesparse.closed_form.ridge import fit_ridge
from edgesparse.config import RunConfig
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.augment import spread
from edgesparse.training.data import TrainingSet, evenly_spaced
from edgesparse.training.evaluation import metric_of, run_apart
from edgesparse_runtime.errors import InputError

NOISE, NOISE_WEIGHT = 0.05, 0.03
# Beyond this many series the closed form takes minutes and more of them hardly help: a part is used.
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
    """

    features: int
    series: int
    shrinkage: float
    loss: float
    left_out: dict[str, object]

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@torch.no_grad()
def fit_skip(model: SequenceTransformer, data: TrainingSet, config: RunConfig) -> tuple[Tensor, SkipReport]:
    """Fit the skip of a model whose stem is fitted.

    Returns:
        Outputs [n, K] of every series by the map without it, and the report.
    """
    skip = model.skip
    assert skip is not None
    generator = torch.Generator().manual_seed(config.training.seed)
    clean = run_apart(model, data, model.skip_features)
    noisy = run_apart(model, data, lambda window: model.skip_features(_with_noise(window, generator)))
    chosen = evenly_spaced(len(data), MOST_SERIES)
    versions = torch.stack([clean[chosen], noisy[chosen]])
    weights = torch.tensor([1.0, NOISE_WEIGHT])[:, None, None] / (1.0 + NOISE_WEIGHT)
    center = (weights * versions).sum(0).mean(0)
    deviation = ((versions - center).square() * weights).sum(0).mean(0).sqrt()
    skip.center.copy_(center)
    # A feature that is the same for all windows is off.
    skip.sharpness.copy_(torch.where(deviation > LEAST_SPREAD, 1.0 / deviation.clamp(min=LEAST_SPREAD), 0.0))
    standardized = torch.stack([skip.standardized(version) for version in versions])
    found = fit_ridge(standardized, data.targets_B[chosen], len(data.facts.classes), (1.0, NOISE_WEIGHT))
    skip.weight.copy_(found.weight)
    skip.bias.copy_(found.bias)
    # A series that the map was not fitted to is left out as it is.
    left_out = skip.standardized(clean) @ skip.weight.mT + skip.bias
    left_out[chosen] = found.left_out
    metric = metric_of(left_out, data, config.training).to_dict()
    return left_out, SkipReport(skip.features, len(chosen), found.shrinkage, found.loss, metric)


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


def _with_noise(window_BCT: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(window_BCT.shape, generator=generator)
    return window_BCT + NOISE * spread(window_BCT) * noise
