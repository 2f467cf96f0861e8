"""Metrics with their uncertainty: a figure on 100 test series is a range, and is shown as one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.evaluation.bootstrap import RESAMPLES, bootstrap_interval

# Metrics in the target's own units, which may be of any size.
ERRORS = ("mae", "rmse")


@dataclass(frozen=True)
class Metric:
    """A measured figure.

    Attributes:
        name: "accuracy", "mae", ...
        value: the figure.
        low: lower end of its 95 % interval.
        high: upper end.
        n: series it was measured on.
        groups: machines or recordings that these come from, where the interval counts them; None = it counts
            series.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    groups: int | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON: an interval that cannot be given is null, `groups` is left out where it is None."""
        found = asdict(self)
        if self.groups is None:
            del found["groups"]
        else:
            found |= {key: None if math.isnan(found[key]) else found[key] for key in ("low", "high")}
        return found

    def __str__(self) -> str:
        return with_interval(self.to_dict())


def figure(name: str, value: float) -> str:
    """A metric's value to read: three decimals of a share, four digits of an error."""
    return f"{value:.4g}" if name in ERRORS else f"{value:.3f}"


def with_interval(metric: Mapping[str, Any]) -> str:
    """What `Metric.to_dict` gave as value [low, high] (n)."""
    name, groups = metric["name"], metric.get("groups")
    value = figure(name, metric["value"])
    count = f"n={metric['n']}" + ("" if groups is None else f" in {groups} group{'s' if groups > 1 else ''}")
    if metric["low"] is None:
        return f"{value} ({count}: no interval)"
    return f"{value} [{figure(name, metric['low'])}, {figure(name, metric['high'])}] ({count})"


Clusters = npt.NDArray[np.str_] | None


def accuracy(is_right: npt.NDArray[np.bool_], clusters: Clusters = None) -> Metric:
    """Share of right decisions, with Wilson's interval, or a bootstrap over `clusters`."""
    n, right = len(is_right), int(is_right.sum())
    if clusters is not None and n:
        ends = bootstrap_interval(is_right.astype(np.float64), clusters=clusters)
        return Metric("accuracy", right / n, *ends, n, len(np.unique(clusters)))
    low, high = wilson_interval(right, n)
    return Metric("accuracy", right / n if n else math.nan, low, high, n)


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share; behaves at 0 and n, where the normal one does not (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def balanced_accuracy(
    truth: npt.NDArray[np.str_], decided: npt.NDArray[np.str_], clusters: Clusters = None
) -> Metric:
    """Mean recall over the classes that occur, with a bootstrap interval.

    Series are drawn within each class, or whole `clusters` are drawn.
    """
    if not len(truth):
        return Metric("balanced_accuracy", math.nan, math.nan, math.nan, 0)
    if clusters is not None:
        pairs = np.stack([np.unique(truth, return_inverse=True)[1], truth == decided], axis=1)
        ends = bootstrap_interval(pairs, _mean_recalls, clusters=clusters)
        value = float(_mean_recalls(pairs[None])[0])
        return Metric("balanced_accuracy", value, *ends, len(truth), len(np.unique(clusters)))
    rng = np.random.default_rng(0)
    found, draws = [], np.zeros(RESAMPLES)
    for label in np.unique(truth):
        right = (decided == label)[truth == label]
        found.append(right.mean())
        draws += rng.binomial(len(right), right.mean(), RESAMPLES) / len(right)
    low, high = np.quantile(draws / len(found), [0.025, 0.975])
    return Metric("balanced_accuracy", float(np.mean(found)), float(low), float(high), len(truth))


def _mean_recalls(draws: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Mean recall over the classes of each draw, [k, n, 2] of class number and whether it was right."""
    return np.array([np.mean([d[d[:, 0] == c, 1].mean() for c in np.unique(d[:, 0])]) for d in draws])


def recalls(
    truth: npt.NDArray[np.str_], decided: npt.NDArray[np.str_], clusters: Clusters = None
) -> dict[str, Metric]:
    """Recall of each class that occurs; its interval counts the `clusters` that have the class."""
    rows = {str(c): truth == c for c in np.unique(truth)}
    return {
        c: accuracy((decided == c)[row], None if clusters is None else clusters[row])
        for c, row in rows.items()
    }


def interval_text(metric: Metric) -> str:
    """The 95 % interval to read; "none" where its windows come from one machine or recording."""
    if math.isnan(metric.low):
        return "none"
    if metric.name in ERRORS:
        return f"[{figure(metric.name, metric.low)}, {figure(metric.name, metric.high)}]"
    return f"[{metric.low:.2f}, {metric.high:.2f}]"


def mean_absolute_error(truth: DoubleArray, predicted: DoubleArray, clusters: Clusters = None) -> Metric:
    """Mean absolute error with a bootstrap interval over series; [n], or [n, steps] of forecasts."""
    return _bootstrap("mae", _by_series(np.abs(truth - predicted)), clusters)


def root_mean_square_error(truth: DoubleArray, predicted: DoubleArray, clusters: Clusters = None) -> Metric:
    """Root of the mean squared error with a bootstrap interval."""
    squared = _bootstrap("rmse", _by_series((truth - predicted) ** 2), clusters)
    ends = (math.sqrt(squared.value), math.sqrt(squared.low), math.sqrt(squared.high))
    return Metric("rmse", *ends, squared.n, squared.groups)


def _by_series(errors: DoubleArray) -> DoubleArray:
    return errors if errors.ndim == 1 else errors.reshape(len(errors), -1).mean(axis=1)


def _bootstrap(name: str, values: DoubleArray, clusters: Clusters) -> Metric:
    if not len(values):
        return Metric(name, math.nan, math.nan, math.nan, 0)
    groups = None if clusters is None else len(np.unique(clusters))
    ends = bootstrap_interval(values, clusters=clusters)
    return Metric(name, float(values.mean()), *ends, len(values), groups)
