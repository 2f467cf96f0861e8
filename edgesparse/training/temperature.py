"""Scores that can be read as probabilities: one temperature, fitted on series that the weights never saw.

The logits are divided by a temperature before the softmax (Guo et al. 2017), in the exported graph too; no
decision changes. It is fitted on the held-out series, or, where labels are too few to hold any out, on
cross-fitted ones: the recipe is trained once more a fold and asked about that fold.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from edgesparse.config import RunConfig
from edgesparse_runtime.data.series_set import SeriesSet

FOLDS = 4
BINS = 10
# Fewer series say too little of a temperature.
FEWEST = 20
HOTTEST = 20.0


@dataclass(frozen=True)
class Calibration:
    """The temperature and what it does, measured on halves that it was not fitted on.

    Attributes:
        temperature: what logits are divided by; fitted on all the series.
        fitted_on: "held-out" or "cross-fitted".
        n: series.
        error_before: expected calibration error of the plain softmax, `BINS` bins of equal width.
        error_after: the same with the temperature of the other half.
        loss_before: cross entropy, and
        loss_after: with the temperature of the other half.
    """

    temperature: float
    fitted_on: str
    n: int
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def calibrate_scores(logits_NK: Tensor, targets_N: Tensor, fitted_on: str) -> Calibration | None:
    """Fit a temperature; None where there are too few series for one."""
    n = len(targets_N)
    if n < FEWEST:
        return None
    logits, after = logits_NK.double(), torch.empty_like(logits_NK, dtype=torch.float64)
    # Every second series: neighbors in a file may be of one kind, so halves cut in the middle may differ.
    halves = torch.arange(n) % 2
    for half in (0, 1):
        temperature = fit_temperature(logits[halves != half], targets_N[halves != half])
        after[halves == half] = logits[halves == half] / temperature
    return Calibration(
        temperature=fit_temperature(logits, targets_N),
        fitted_on=fitted_on,
        n=n,
        error_before=expected_calibration_error(logits, targets_N),
        error_after=expected_calibration_error(after, targets_N),
        loss_before=float(cross_entropy(logits, targets_N)),
        loss_after=float(cross_entropy(after, targets_N)),
    )


def fit_temperature(logits_NK: Tensor, targets_N: Tensor) -> float:
    """The temperature, from 1/20 to 20, with the least cross entropy.

    Cross entropy is convex in one over the temperature: a golden-section search of it finds the one minimum.
    """
    ratio = (math.sqrt(5) - 1) / 2
    low, high = 1 / HOTTEST, HOTTEST

    def loss(sharpness: float) -> float:
        return float(cross_entropy(logits_NK.double() * sharpness, targets_N))

    for _ in range(60):
        span = ratio * (high - low)
        if loss(high - span) <= loss(low + span):
            high = low + span
        else:
            low = high - span
    return 2 / (low + high)


def expected_calibration_error(logits_NK: Tensor, targets_N: Tensor) -> float:
    """Mean gap between confidence and accuracy, weighed by how many scores fall into each of `BINS` bins."""
    confidence, decided = logits_NK.softmax(-1).max(-1)
    right = (decided == targets_N).double()
    index = (confidence * BINS).long().clamp(max=BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, index, confidence.double() - right)
    return float(gap.abs().sum() / len(targets_N))


def cross_fitted_logits(data: SeriesSet, config: RunConfig, *, quiet: bool) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] of series by models that did not see them, and the targets [n].

    Whole groups fall into one fold where there are any, else every class is spread over the folds. A series
    whose class the rest of the folds lacks is left out.
    """
    from edgesparse.training.data import data_facts, to_targets
    from edgesparse.training.evaluation import predict
    from edgesparse.training.loop import train

    settings = replace(config.training, temperature="none", validation_share=0.0, patience=0)
    facts = data_facts(data, settings)
    logits, targets = [], []
    for fold in folds(data, settings.seed):
        rest = np.setdiff1d(np.arange(len(data)), fold)
        assert data.labels is not None
        known = np.unique(data.labels[rest])
        fold = fold[np.isin(data.labels[fold], known)]
        if len(known) < 2 or not len(fold):
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = train(
                data.take(rest), replace(config, training=settings), Path(folder) / "fold", quiet=quiet
            )
        # A class that this fold's model does not know gets no share.
        found = torch.full((len(fold), len(facts.classes)), -30.0)
        places = torch.tensor([facts.classes.index(name) for name in run.facts.classes])
        found[:, places] = predict(run.model, data.take(fold))
        logits.append(found)
        targets.append(to_targets(data.take(fold), facts, settings))
    if not logits:
        return torch.zeros(0, len(facts.classes)), torch.zeros(0, dtype=torch.int64)
    return torch.cat(logits), torch.cat(targets)


def folds(data: SeriesSet, seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices of each fold."""
    rng = np.random.default_rng(seed)
    keys = data.groups if data.groups is not None and len(np.unique(data.groups)) > 1 else None
    number = np.zeros(len(data), dtype=np.int64)
    if keys is not None:
        names = rng.permutation(np.unique(keys))
        for i, name in enumerate(names):
            number[keys == name] = i % FOLDS
    else:
        assert data.labels is not None
        for label in np.unique(data.labels):
            index = rng.permutation(np.flatnonzero(data.labels == label))
            number[index] = (np.arange(len(index)) + int(rng.integers(FOLDS))) % FOLDS
    return [np.flatnonzero(number == fold) for fold in range(FOLDS)]
