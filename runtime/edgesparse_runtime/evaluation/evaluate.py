"""A model on labeled data: metrics with intervals, by group, and under disturbances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.forecasting import cut_horizon, last_value, seasonal_values
from edgesparse_runtime.data.readers.labels import class_name
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.metrics import (
    Metric,
    accuracy,
    balanced_accuracy,
    mean_absolute_error,
    recalls,
    root_mean_square_error,
)
from edgesparse_runtime.session import Session

Labels = npt.NDArray[np.str_] | npt.NDArray[np.float64]
STRENGTHS = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Evaluation:
    """What a model scored.

    Attributes:
        metrics: the first one is the one that gates read.
        recall: a metric per class; empty for regression.
        robustness: metric by disturbance and strength.
        rivals: forecasting: the same metrics of naive forecasts.
        groups: the first metric per machine or recording, where the data have several; the worst one first.
    """

    metrics: list[Metric]
    recall: dict[str, Metric]
    robustness: dict[str, list[tuple[float, Metric]]]
    rivals: dict[str, list[Metric]] = field(default_factory=dict)
    groups: dict[str, Metric] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "metrics": {m.name: m.to_dict() for m in self.metrics},
            "recall": {name: m.to_dict() for name, m in self.recall.items()},
            "robustness": {
                name: [{"strength": s} | m.to_dict() for s, m in rows]
                for name, rows in self.robustness.items()
            },
            "rivals": {name: {m.name: m.to_dict() for m in rows} for name, rows in self.rivals.items()},
            "groups": {name: m.to_dict() for name, m in self.groups.items()},
            "worst_group": next(iter(self.groups), None),
        }


def evaluate(session: Session, data: SeriesSet, *, robustness: bool = False) -> Evaluation:
    """Score `data` and compare with its labels, or, of a forecaster, with the last steps of each series.

    Raises:
        InputError: no labels, labels of another kind than the task, or a model without a bundle.
    """
    if session.bundle is None:
        raise InputError("evaluate needs a bundle: a bare .onnx file does not name its classes.")
    forecast = session.bundle.manifest.get("forecast")
    if forecast is not None:
        data = cut_horizon(data, str(forecast["channel"]), int(forecast["horizon"]))
    if data.labels is None:
        raise InputError(f"{data.source or 'The data'} must have labels to evaluate on; there are none.")
    classes = session.classes
    labels = known_labels(data.labels, classes, data.source)
    scores = session.predict(data)
    clusters = independent_groups(data)
    disturbed: dict[str, list[tuple[float, Metric]]] = {}
    for name in DISTURBANCES if robustness else ():
        disturbed[name] = [
            (s, score_metrics(session.predict(disturb(data, name, s)), labels, classes, clusters)[0])
            for s in STRENGTHS
        ]
    rivals: dict[str, list[Metric]] = {}
    if forecast is not None:
        channel, horizon, season = str(forecast["channel"]), int(forecast["horizon"]), forecast["season"]
        rivals["last value"] = score_metrics(last_value(data, channel, horizon), labels, (), clusters)
        if season:
            seasonal = seasonal_values(data, channel, horizon, season)
            rivals[f"a season of {season} steps before"] = score_metrics(seasonal, labels, (), clusters)
    return Evaluation(
        score_metrics(scores, labels, classes, clusters),
        recalls(np.asarray(labels, dtype=np.str_), decide(scores, classes), clusters) if classes else {},
        disturbed,
        rivals,
        by_group(scores, labels, clusters, classes, recordings_of(data)),
    )


def independent_groups(data: SeriesSet) -> npt.NDArray[np.str_] | None:
    """The machine, or else the recording, of each series; None where no two series share one.

    Windows of one machine resemble each other, and windows of one recording may overlap: an interval that
    counts them one by one is too narrow.
    """
    named = data.groups
    if named is None and data.grid.window is not None:
        named = data.recordings
    return None if named is None or len(np.unique(named)) == len(data) else named


def recordings_of(data: SeriesSet) -> npt.NDArray[np.str_] | None:
    """The recording that each window was cut from; None where every series is a recording."""
    named = data.recordings if data.grid.window is not None else None
    return None if named is None or len(np.unique(named)) == len(data) else named


def by_group(
    scores: npt.NDArray[np.floating[Any]],
    labels: Labels,
    clusters: npt.NDArray[np.str_] | None,
    classes: tuple[str, ...],
    recordings: npt.NDArray[np.str_] | None = None,
) -> dict[str, Metric]:
    """The first metric of each group, the worst first; {} where there are no groups or only one.

    Args:
        recordings: that the windows were cut from; what is independent within a group. None = every series.
    """
    names = () if clusters is None else np.unique(clusters)
    if len(names) < 2:
        return {}
    found = {}
    for name in names:
        own = clusters == name
        inner = None if recordings is None else recordings[own]
        found[str(name)] = score_metrics(scores[own], labels[own], classes, inner)[0]
    return dict(sorted(found.items(), key=lambda item: item[1].value if classes else -item[1].value))


def known_labels(labels: Labels, classes: tuple[str, ...], source: str) -> Labels:
    """Labels in the model's spelling; targets of a model without classes stay as they are.

    Numbers are the classes that files would have: 9.0 is class 9. Labels may differ by case where that leaves
    no doubt: bundles from .ts files were once trained on lower-cased labels.

    Raises:
        InputError: a class that the model does not know.
    """
    if not classes:
        return labels
    if labels.dtype.kind != "U":
        labels = np.array([class_name(label) for label in labels.tolist()], dtype=np.str_)
    present = {str(label) for label in labels}
    if present <= set(classes):
        return labels
    spelled = {}
    for label in present - set(classes):
        same = [name for name in classes if name.casefold() == label.casefold()]
        if len(same) == 1 and same[0] not in present:
            spelled[label] = same[0]
    unknown = sorted(present - set(classes) - set(spelled))
    if unknown:
        raise InputError(
            f"{source} must hold classes that the model knows ({', '.join(classes[:8])}); "
            f"got {', '.join(unknown[:3])}."
        )
    return np.array([spelled.get(str(label), str(label)) for label in labels], dtype=np.str_)


def decide(scores: npt.NDArray[np.floating[Any]], classes: tuple[str, ...]) -> npt.NDArray[np.str_]:
    """The class with the highest score, by name."""
    return np.asarray(np.array(classes, dtype=np.str_)[scores.argmax(-1)], dtype=np.str_)


def score_metrics(
    scores: npt.NDArray[np.floating[Any]],
    labels: Labels,
    classes: tuple[str, ...],
    clusters: npt.NDArray[np.str_] | None = None,
) -> list[Metric]:
    """Accuracy and balanced accuracy, or mean absolute and root mean square error.

    Args:
        clusters: the machine or recording of each series, where intervals should count these.
    """
    if classes:
        truth, decided = np.asarray(labels, dtype=np.str_), decide(scores, classes)
        return [accuracy(truth == decided, clusters), balanced_accuracy(truth, decided, clusters)]
    try:
        targets = np.asarray(labels, dtype=np.float64)
    except ValueError:
        raise InputError("Labels must be numbers: the model predicts a number.") from None
    predicted = scores.astype(np.float64).reshape(targets.shape)
    return [
        mean_absolute_error(targets, predicted, clusters),
        root_mean_square_error(targets, predicted, clusters),
    ]


def disturb(data: SeriesSet, name: str, strength: float) -> SeriesSet:
    """`data` as another sensor might have seen it; the same every time."""
    rng = np.random.default_rng(0)
    series = [DISTURBANCES[name](x, strength, rng).astype(np.float32) for x in data.series]
    return data.with_series(series)


def _spread(x_CT: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.nan_to_num(x_CT).std(axis=1, keepdims=True), dtype=np.float64)


def _noise(x_CT: FloatArray, strength: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    return np.asarray(x_CT + strength * _spread(x_CT) * rng.standard_normal(x_CT.shape))


def _gain(x_CT: FloatArray, strength: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    return np.asarray(x_CT * (1 + strength * rng.choice([-1.0, 1.0])))


def _offset(x_CT: FloatArray, strength: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    return np.asarray(x_CT + strength * _spread(x_CT) * rng.choice([-1.0, 1.0]))


def _missing(x_CT: FloatArray, strength: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    """A share of the steps is missing, in one stretch."""
    steps = x_CT.shape[1]
    lost = round(strength * steps)
    start = int(rng.integers(0, steps - lost + 1))
    x = x_CT.copy()
    x[:, start : start + lost] = np.nan
    return x


DISTURBANCES = {"noise": _noise, "gain": _gain, "offset": _offset, "missing stretch": _missing}
