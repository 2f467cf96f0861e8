"""A model on labeled data: metrics with intervals, and what disturbances do to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.forecasting import cut_horizon, last_value, seasonal_values
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

FloatArray = npt.NDArray[np.float32]
Labels = npt.NDArray[np.str_] | npt.NDArray[np.float64]
STRENGTHS = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Evaluation:
    """What a model scored.

    Attributes:
        metrics: the first one is the one that gates read.
        recall: a metric a class; empty for regression.
        robustness: metric by disturbance and strength.
        rivals: forecasting: the same metrics of what costs nothing to foretell.
    """

    metrics: list[Metric]
    recall: dict[str, Metric]
    robustness: dict[str, list[tuple[float, Metric]]]
    rivals: dict[str, list[Metric]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "metrics": {m.name: m.to_dict() for m in self.metrics},
            "recall": {name: m.to_dict() for name, m in self.recall.items()},
            "robustness": {
                name: [{"strength": s} | m.to_dict() for s, m in rows]
                for name, rows in self.robustness.items()
            },
            "rivals": {name: {m.name: m.to_dict() for m in rows} for name, rows in self.rivals.items()},
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
    classes = session.bundle.classes
    unknown = sorted({str(x) for x in data.labels} - set(classes)) if classes else []
    if unknown:
        raise InputError(
            f"{data.source} must hold classes that the model knows ({', '.join(classes[:8])}); "
            f"got {', '.join(unknown[:3])}."
        )
    scores = session.predict(data)
    recall = recalls(data.labels, decide(scores, classes)) if classes else {}  # type: ignore[arg-type]
    disturbed: dict[str, list[tuple[float, Metric]]] = {}
    if robustness:
        for name in DISTURBANCES:
            rows = [
                (s, score_metrics(session.predict(disturb(data, name, s)), data.labels, classes)[0])
                for s in STRENGTHS
            ]
            disturbed[name] = rows
    rivals: dict[str, list[Metric]] = {}
    if forecast is not None:
        channel, horizon, season = forecast["channel"], forecast["horizon"], forecast["season"]
        rivals["last value"] = score_metrics(last_value(data, channel, horizon), data.labels, ())
        if season:
            seasonal = seasonal_values(data, channel, horizon, season)
            rivals[f"a season of {season} steps before"] = score_metrics(seasonal, data.labels, ())
    return Evaluation(score_metrics(scores, data.labels, classes), recall, disturbed, rivals)


def decide(scores: npt.NDArray[np.floating[Any]], classes: tuple[str, ...]) -> npt.NDArray[np.str_]:
    """The class with the highest score, by name."""
    return np.asarray(np.array(classes, dtype=np.str_)[scores.argmax(-1)], dtype=np.str_)


def score_metrics(
    scores: npt.NDArray[np.floating[Any]], labels: Labels, classes: tuple[str, ...]
) -> list[Metric]:
    """Accuracy and balanced accuracy, or mean absolute and root mean square error."""
    if classes:
        truth, decided = np.asarray(labels, dtype=np.str_), decide(scores, classes)
        return [accuracy(truth == decided), balanced_accuracy(truth, decided)]
    try:
        targets = np.asarray(labels, dtype=np.float64)
    except ValueError:
        raise InputError("Labels must be numbers: the model predicts a number.") from None
    predicted = scores.astype(np.float64).reshape(targets.shape)
    return [mean_absolute_error(targets, predicted), root_mean_square_error(targets, predicted)]


def disturb(data: SeriesSet, name: str, strength: float) -> SeriesSet:
    """`data` as another sensor might have seen it; the same every time."""
    rng = np.random.default_rng(0)
    series = [DISTURBANCES[name](x, strength, rng).astype(np.float32) for x in data.series]
    return SeriesSet(series, data.channels, data.labels, data.groups, data.source)


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
