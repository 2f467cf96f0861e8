"""`--model auto`: what the transformer adds to the skip on series that neither was trained on.

Four folds: on three the whole model is trained, on the fourth its skip alone and the sum are measured. The
smaller model is taken unless the sum is better by half a point of accuracy (half a percent of the error, for
a target) and its loss is lower too. Test data play no part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from edgesparse.config import RunConfig
from edgesparse.training.cross_fit import folds, out_of_fold
from edgesparse.training.data import to_targets, to_windows
from edgesparse.training.evaluation import run_apart
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval

FloatArray = npt.NDArray[np.float64]
# What the transformer must gain: share of right decisions, or of the skip's error.
LEAST_GAIN = 0.005


@dataclass(frozen=True)
class ModelChoice:
    """Which model was taken, and why.

    Attributes:
        model: "small" or "full".
        gain: accuracy, or share of the error, that the transformer gains out of fold;
        low: of its 95 % interval, over series or groups,
        high: the other end.
        loss_skip: log loss, or mean squared error of standardized targets, of the skip alone, and
        loss_full: of the sum.
        series: measured.
        reason: one sentence.
    """

    model: str
    gain: float
    low: float
    high: float
    loss_skip: float
    loss_full: float
    series: int
    reason: str

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def choose_model(
    data: SeriesSet, config: RunConfig, *, say: Callable[[str], None] = lambda _: None
) -> tuple[RunConfig, ModelChoice]:
    """The configuration to train with, and what was measured.

    Args:
        config: of the whole model: `stem` 2 with layers.
        say: progress, one line each.
    """
    gains, losses, rows = [], [], []
    for fold, fitted, full in out_of_fold(data, config, folds(data, config.training.seed), quiet=True):
        held = data.take(fold)
        skip = run_apart(fitted.model, to_windows(held), fitted.model.skip_alone)
        if fitted.facts.classes:
            known = np.isin(np.asarray(held.labels, dtype=np.str_), fitted.facts.classes)
            fold, held = fold[known], held.take(np.flatnonzero(known))
            mask = torch.from_numpy(known)
            skip, full = skip[mask], full[mask]
        targets = to_targets(held, fitted.facts, config.training)
        compared = [_score(output, targets, bool(fitted.facts.classes)) for output in (skip, full)]
        gains.append(compared[1][0] - compared[0][0])
        losses.append(np.stack([compared[0][1], compared[1][1]]))
        rows.append(fold)
        say(f"model: fold {len(rows)} measured")
    if not rows:
        return _small(config), ModelChoice("small", 0.0, 0.0, 0.0, 0.0, 0.0, 0, "too few series to measure")
    gain, loss, row = np.concatenate(gains), np.concatenate(losses, axis=1).mean(axis=1), np.concatenate(rows)
    is_classifier = config.training.task == "classification"
    if not is_classifier:
        gain = gain / max(float(np.sqrt(loss[0])), 1e-12)
    low, high = bootstrap_interval(gain, clusters=None if data.groups is None else data.groups[row])
    mean, unit = float(gain.mean()), "points of accuracy" if is_classifier else "% of the error"
    is_full = mean >= LEAST_GAIN and bool(loss[1] < loss[0])
    reason = (
        f"out of fold the transformer adds {100 * mean:+.1f} {unit} [{100 * low:+.1f}, {100 * high:+.1f}]"
    )
    choice = ModelChoice(
        "full" if is_full else "small", mean, low, high, float(loss[0]), float(loss[1]), len(row), reason
    )
    return (config if is_full else _small(config)), choice


def _small(config: RunConfig) -> RunConfig:
    return replace(config, model=replace(config.model, layers=0))


def _score(output: Tensor, targets: Tensor, is_classifier: bool) -> tuple[FloatArray, FloatArray]:
    """How good each output is (1 = right, or less the error), and its loss."""
    if is_classifier:
        right = (output.argmax(-1) == targets).double()
        return right.numpy(), cross_entropy(output.double(), targets, reduction="none").numpy()
    error = output.double().view(len(targets)) - targets.double()
    return -error.abs().numpy(), error.square().numpy()
