"""The fixed features of a model with a skip: what they are computed on is chosen, and their map is fitted.

Some questions have another answer for each data set: whether windows of unequal length are stretched to one
length, whether their own level and scale are taken off, whether differences are averaged over a few steps,
and for short windows whether more dilations help. A model without layers is fitted in seconds, so each answer
is tried, one question after the other, and compared by the leave-one-out log loss that the closed form yields
anyway. Test data play no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from edgesparse.closed_form.fit_in_blocks import BlockFit
from edgesparse.closed_form.fit_skip import NOISE, SkipReport, fit_skip
from edgesparse.config import ModelConfig, RunConfig, TrainingConfig
from edgesparse.model.build import build_model
from edgesparse.model.skip import SMOOTHED
from edgesparse.model.transformer import SequenceTransformer, choose_sizes, typical_steps
from edgesparse.training.augment import spread
from edgesparse.training.data import TrainingSet, evenly_spaced, in_memory
from edgesparse.training.evaluation import metric_of, run_apart
from edgesparse_runtime.machine.progress import progress

# Windows that normalization and thresholds are fitted on.
STEM_SERIES = 256
# Series that a choice is made on, at most: more make it slower, hardly surer.
TRIED_SERIES = 512
# An answer other than the first is taken if it takes more off the loss than so many standard errors over the
# series, and this share off the loss that counts noise too.
ERRORS, LEAST_GAIN = 1.0, 0.02
# Windows are stretched to the longest, but to at most so many times the median length.
MOST_STRETCHED = 5
# For windows of at most so many steps, unless there are so many that they stay in their file: there is time.
MORE_DILATIONS, MORE_UNTIL = (1, 2, 4, 8, 16, 32), 1024
# Windows whose means and spreads all lie closer together than this, in spreads, are normalized already.
SAME_LEVEL = 1e-2

Tried = list[dict[str, object]]


def choose_stem(config: RunConfig, data: TrainingSet, lengths: Sequence[int]) -> tuple[RunConfig, Tried]:
    """`config` with the model's sizes chosen and, without layers, its open questions answered.

    Args:
        data: labeled windows to train on.
        lengths: of the windows that sizes are chosen by.

    Returns:
        What was tried comes second, with the loss of each; empty if nothing was open.
    """
    model, tried = config.model, Tried()
    questions = list(_questions(config, data))
    if questions:
        few = data if len(data) <= TRIED_SERIES else _part(data, config.training)
        best, by_series = _losses(replace(config, model=choose_sizes(model, lengths)), few)
        tried.append({"loss": best})
        for answer in questions:
            other = replace(model, **answer)
            loss, losses = _losses(replace(config, model=choose_sizes(other, lengths)), few)
            is_taken = loss < (1.0 - LEAST_GAIN) * best and _is_lower(losses, by_series)
            tried.append(answer | {"loss": loss, "taken": describe(answer) if is_taken else None})
            if is_taken:
                model, best, by_series = other, loss, losses
    return replace(config, model=choose_sizes(_settled(model), lengths)), tried


def fit_model_skip(
    model: SequenceTransformer,
    data: TrainingSet,
    settings: TrainingConfig,
    tried: Tried | None = None,
    *,
    quiet: bool = True,
) -> tuple[Tensor | None, SkipReport]:
    """Fit the skip; its outputs [n, K] for series that it was fitted without, and how good they are.

    Windows that stay in their file are fitted block by block. Layers alone need all outputs: without layers
    some are computed then, for the report, and none come back.
    """
    assert model.skip is not None
    if data.is_stored:
        return _fit_stored_skip(model, data, settings, tried, quiet=quiet)
    generator = torch.Generator().manual_seed(settings.seed)

    def on_noise(window_BCT: Tensor) -> Tensor:
        noise = torch.randn(window_BCT.shape, generator=generator)
        return model.skip_features(window_BCT + NOISE * spread(window_BCT) * noise)

    clean, noisy = run_apart(model, data, model.skip_features), run_apart(model, data, on_noise)
    left_out, found, series = fit_skip(model.skip, clean, noisy, data.targets_B, len(data.facts.classes))
    metric = metric_of(left_out, data, settings).to_dict()
    report = SkipReport(model.skip.features, series, found.shrinkage, found.loss, metric, tried or [])
    return left_out, report


def _fit_stored_skip(
    model: SequenceTransformer,
    data: TrainingSet,
    settings: TrainingConfig,
    tried: Tried | None,
    *,
    quiet: bool,
) -> tuple[Tensor | None, SkipReport]:
    assert model.skip is not None
    shape = (len(data.series.channels), int(data.lengths_B.max()))

    def features(rows: Tensor, is_noisy: bool) -> Tensor:
        window_BCT = data.rows(rows)
        if is_noisy:
            # A window's noise depends on its number alone: it is drawn more than once.
            seeds = [settings.seed * 1_000_003 + int(row) for row in rows]
            noise = torch.stack([torch.randn(shape, generator=_seeded(seed)) for seed in seeds])
            window_BCT = window_BCT + NOISE * spread(window_BCT) * noise[..., : window_BCT.shape[-1]]
        return torch.cat([model.skip_features(part) for part in torch.split(window_BCT, 32)])

    was_training = model.training
    model.eval()
    block = BlockFit(model.skip, features, data.targets_B, len(data.facts.classes))
    with progress("Fitting", block.steps, quiet=quiet) as bar:
        block.advance = bar.advance
        found = block.fit()
    metric = metric_of(found.left_out, data.part(block.sample, settings), settings).to_dict()
    report = SkipReport(model.skip.features, len(data), found.shrinkage, found.loss, metric, tried or [])
    outputs = block.left_out() if len(model.layers) else None
    model.train(was_training)
    return outputs, report


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def describe(answer: dict[str, Any]) -> str:
    """One of the other answers, in words."""
    ((name, value),) = answer.items()
    return {
        "stretched": f"windows are stretched to {value} steps",
        "fixed_scale": "windows keep their level and scale",
        "smoothed": "differences are not averaged",
        "dilations": "filters at more dilations",
    }[name]


def _questions(config: RunConfig, data: TrainingSet) -> Iterator[dict[str, Any]]:
    """What is left open, with the answer to try, the ones that change most first."""
    model = config.model
    if model.layers or config.training.task == "forecasting":
        return
    lengths = data.series.lengths
    if model.stretched is None and data.facts.variable_length:
        # One window many times as long as the others must not make all of them so long, and so slow.
        yield {"stretched": min(data.facts.longest, round(MOST_STRETCHED * float(np.median(lengths))))}
    if model.fixed_scale is None and _has_level(data):
        yield {"fixed_scale": True}
    if model.smoothed is None:
        yield {"smoothed": 1}
    is_short = typical_steps(lengths) <= MORE_UNTIL and not data.is_stored
    if model.dilations == ModelConfig().dilations and is_short:
        yield {"dilations": MORE_DILATIONS}


def _settled(model: ModelConfig) -> ModelConfig:
    if model.layers:
        return model
    return replace(
        model,
        stretched=model.stretched or 0,
        fixed_scale=bool(model.fixed_scale),
        smoothed=model.smoothed or SMOOTHED,
    )


def _has_level(data: TrainingSet) -> bool:
    """Whether windows differ in level or scale: archives have every window at mean 0 and spread 1."""
    windows = data.sample(STEM_SERIES).double().numpy()
    seen = ~np.isnan(windows)
    count = seen.sum(-1).clip(1)
    mean = np.where(seen, windows, 0.0).sum(-1) / count
    deviation = np.where(seen, windows - mean[..., None], 0.0)
    scale = np.sqrt((deviation**2).sum(-1) / count)
    unit = max(float(scale.mean()), 1e-30)
    return bool(max(mean.std(0).max(), scale.std(0).max()) > SAME_LEVEL * unit)


def _part(data: TrainingSet, settings: TrainingConfig) -> TrainingSet:
    part = data.part(evenly_spaced(len(data), TRIED_SERIES), settings)
    return part if not part.is_stored else in_memory(part)


def _is_lower(losses_n: Tensor, than_n: Tensor) -> bool:
    """Whether the mean is lower by more than chance, series by series."""
    gain = than_n - losses_n
    return bool(gain.mean() > ERRORS * gain.std() / math.sqrt(len(gain)))


@torch.no_grad()
def _losses(config: RunConfig, data: TrainingSet) -> tuple[float, Tensor]:
    """Leave-one-out loss of a model without layers, noise counted too; that of each series as it is."""
    torch.manual_seed(config.training.seed)
    model = build_model(config, data.facts)
    model.fit_stem(data.sample(STEM_SERIES))
    outputs, report = fit_model_skip(model, data, config.training)
    assert outputs is not None
    if data.facts.classes:
        return report.loss, cross_entropy(outputs, data.targets_B, reduction="none")
    return report.loss, (outputs[:, 0] - data.targets_B).square()
