"""Cross-fitting: every series predicted by a model that was trained without it.

Temperatures are fitted on such predictions, and cross-validation measures them group by group.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgesparse.config import RunConfig, is_same_config
from edgesparse.training.data import data_facts, fingerprint, to_targets, to_windows
from edgesparse.training.evaluation import predict
from edgesparse.training.supervised import Fitted, fit_labeled, with_targets
from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval
from edgesparse_runtime.evaluation.metrics import Metric, accuracy, mean_absolute_error

Indices = npt.NDArray[np.int64]
FOLDS = 4
# With more groups than this, several share a fold.
MOST_GROUP_FOLDS = 10
FOLDS_FILE = "cross-validation.json"


@dataclass(frozen=True)
class CrossValidation:
    """How models do on groups that they were not trained on.

    Attributes:
        groups: accuracy, or mean absolute error, of each group, by a model trained on the other folds.
        overall: over all series; its interval is over groups, since series of one group resemble each other.
        left_out: groups that could not be measured: without them only one class is left.
        folds: models trained.
    """

    groups: dict[str, Metric]
    overall: Metric
    left_out: list[str]
    folds: int

    def to_dict(self) -> dict[str, Any]:
        groups = {name: metric.to_dict() for name, metric in self.groups.items()}
        return {
            "groups": groups,
            "overall": self.overall.to_dict(),
            "left_out": self.left_out,
            "folds": self.folds,
        }


class StoredFolds:
    """npt.NDArray[np.float64] of each series by fold.

    Args:
        folder: the run folder; None = nothing is stored.
        resume: use what is stored there.

    Raises:
        InputError: stored for another configuration or other data, or damaged.
    """

    def __init__(self, folder: Path | None, data: SeriesSet, config: RunConfig, *, resume: bool) -> None:
        self._path = None if folder is None else folder / FOLDS_FILE
        self._started_with: dict[str, Any] = {"settings": config.to_dict(), "data": fingerprint(data)}
        self._folds: dict[str, list[float]] = {}
        if resume and self._path is not None and self._path.exists():
            self._folds = self._read(self._path)

    def get(self, fold: int, count: int) -> npt.NDArray[np.float64] | None:
        """The values of a fold of `count` series; None = not measured yet."""
        found = self._folds.get(str(fold))
        return None if found is None or len(found) != count else np.array(found, dtype=np.float64)

    def put(self, fold: int, values: npt.NDArray[np.float64]) -> None:
        self._folds[str(fold)] = values.tolist()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            record = {"started_with": self._started_with, "folds": self._folds}
            replace_text(self._path, json.dumps(record) + "\n")

    def _read(self, path: Path) -> dict[str, list[float]]:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            started_with, folds = record["started_with"], record["folds"]
            stored = {str(k): [float(x) for x in values] for k, values in folds.items()}
            is_same = is_same_config(started_with["settings"], self._started_with["settings"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{path} is damaged. Delete it; the folds are then measured again.") from None
        if not is_same or started_with["data"] != json.loads(json.dumps(self._started_with["data"])):
            raise InputError(
                f"{path} was started with another configuration or other data. "
                "Resume with the same configuration and data, or add --overwrite in place of --resume."
            )
        return stored


def cross_fitted_logits(data: SeriesSet, config: RunConfig, *, quiet: bool) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] of series by models that did not see them, and the targets [n].

    Trains `FOLDS` more times. A series whose class occurs in its own fold only is left out.
    """
    facts = data_facts(data, config.training)
    logits, targets = [], []
    for fold, fitted, output in out_of_fold(data, config, folds(data, config.training.seed), quiet=quiet):
        assert data.labels is not None
        # A class that this fold's model does not know gets no share.
        found = torch.full((len(fold), len(facts.classes)), -30.0)
        places = torch.tensor([facts.classes.index(name) for name in fitted.facts.classes])
        found[:, places] = output
        is_known = np.isin(data.labels[fold], fitted.facts.classes)
        logits.append(found[is_known])
        targets.append(to_targets(data.take(fold[is_known]), facts, config.training))
    if not logits:
        return torch.zeros(0, len(facts.classes)), torch.zeros(0, dtype=torch.int64)
    return torch.cat(logits), torch.cat(targets)


def cross_validate(
    data: SeriesSet,
    config: RunConfig,
    *,
    out: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> CrossValidation:
    """Leave each group out of training once and measure it; with many groups, several at a time.

    Args:
        out: the run folder, where each fold is stored as it finishes; None = nowhere.
        resume: continue after the folds stored in `out`.

    Raises:
        InputError: fewer than two groups, none that can be measured, or folds stored in `out` with another
            configuration or other data.
    """
    if data.groups is None or len(np.unique(data.groups)) < 2:
        have = 0 if data.groups is None else len(np.unique(data.groups))
        raise InputError(
            f"{data.source or 'The data'} must hold at least two groups to cross-validate over; got {have}. "
            "Name the column of the machine, run or person."
        )
    rng = np.random.default_rng(config.training.seed)
    names = rng.permutation(np.unique(data.groups))
    count = min(len(names), MOST_GROUP_FOLDS)
    parts = [np.flatnonzero(np.isin(data.groups, names[i::count])) for i in range(count)]
    values = np.full(len(data), np.nan)
    trained = 0
    stored = StoredFolds(out, data, config, resume=resume)
    for i, part in enumerate(parts):
        found_part = stored.get(i, len(part))
        if found_part is None:
            # No model where the rest has too few classes.
            for fold, fitted, output in out_of_fold(data, config, [part], quiet=quiet):
                held = with_targets(data.take(fold), config.training)
                found_part = _by_series(output, held, fitted)
                stored.put(i, found_part)
        if found_part is not None:
            values[part] = found_part
            trained += 1
            say(f"cross-validation: {trained} of {count} folds")
    measured = ~np.isnan(values)
    if not measured.any():
        raise InputError(f"{data.source or 'The data'} must hold two classes besides each group's own.")
    rows = {str(name): data.groups == name for name in names}
    found = {name: _metric(values[row], config) for name, row in rows.items() if measured[row].any()}
    overall = _metric(values[measured], config)
    low, high = bootstrap_interval(values[measured], clusters=data.groups[measured])
    return CrossValidation(
        groups=dict(sorted(found.items())),
        overall=replace(overall, low=low, high=high),
        left_out=sorted(str(n) for n in names if str(n) not in found),
        folds=trained,
    )


def out_of_fold(
    data: SeriesSet, config: RunConfig, parts: list[Indices], *, quiet: bool
) -> Iterator[tuple[Indices, Fitted, Tensor]]:
    """Each fold with the model that was trained on the others, and that model's output for the fold.

    A fold is skipped where the rest has fewer than two classes, or none that the fold has.
    """
    settings = replace(config.training, validation_share=0.0, patience=0)
    is_classifier = settings.task == "classification"
    for fold in parts:
        rest = np.setdiff1d(np.arange(len(data)), fold)
        if not len(fold) or not len(rest):
            continue
        if is_classifier:
            assert data.labels is not None
            known = np.unique(data.labels[rest])
            if len(known) < 2 or not np.isin(data.labels[fold], known).any():
                continue
        with tempfile.TemporaryDirectory() as folder:
            fitted = fit_labeled(
                data.take(rest), replace(config, training=settings), Path(folder), quiet=quiet
            )
        held = with_targets(data.take(fold), settings)
        yield fold, fitted, predict(fitted.model, to_windows(held))


def folds(data: SeriesSet, seed: int) -> list[Indices]:
    """Indices of each fold: whole groups where there are several, else every class spread over the folds."""
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


def _by_series(output: Tensor, held: SeriesSet, fitted: Fitted) -> npt.NDArray[np.float64]:
    """1 for a right decision and 0 for a wrong one, or the absolute error in the target's unit."""
    facts = fitted.facts
    if facts.classes:
        decided = np.array(facts.classes)[output.argmax(-1).numpy()]
        return np.asarray(decided == held.labels, dtype=np.float64)
    truth = np.asarray(held.labels, dtype=np.float64)
    predicted = output.double().numpy().reshape(truth.shape) * facts.target_scale + facts.target_center
    errors: npt.NDArray[np.float64] = np.abs(truth - predicted).reshape(len(truth), -1).mean(axis=1)
    return errors


def _metric(values: npt.NDArray[np.float64], config: RunConfig) -> Metric:
    if config.training.task == "classification":
        return accuracy(values == 1.0)
    return mean_absolute_error(values, np.zeros_like(values))
