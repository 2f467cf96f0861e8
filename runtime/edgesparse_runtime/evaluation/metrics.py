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
    """

    name: str
    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        return with_interval(self.to_dict())


def figure(name: str, value: float) -> str:
    """A metric's value to read: three decimals of a share, four digits of an error."""
    return f"{value:.4g}" if name in ERRORS else f"{value:.3f}"


def with_interval(metric: Mapping[str, Any]) -> str:
    """What `Metric.to_dict` gave as value [low, high] (n)."""
    value, low, high = (figure(metric["name"], metric[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}] (n={metric['n']})"


def accuracy(is_right: npt.NDArray[np.bool_]) -> Metric:
    """Share of right decisions, with Wilson's interval."""
    n, right = len(is_right), int(is_right.sum())
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


def balanced_accuracy(truth: npt.NDArray[np.str_], decided: npt.NDArray[np.str_]) -> Metric:
    """Mean recall over the classes that occur, with a bootstrap interval (series drawn within each class)."""
    if not len(truth):
        return Metric("balanced_accuracy", math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(0)
    found, draws = [], np.zeros(RESAMPLES)
    for label in np.unique(truth):
        right = (decided == label)[truth == label]
        found.append(right.mean())
        draws += rng.binomial(len(right), right.mean(), RESAMPLES) / len(right)
    low, high = np.quantile(draws / len(found), [0.025, 0.975])
    return Metric("balanced_accuracy", float(np.mean(found)), float(low), float(high), len(truth))


def recalls(truth: npt.NDArray[np.str_], decided: npt.NDArray[np.str_]) -> dict[str, Metric]:
    """Recall of each class that occurs."""
    return {str(c): accuracy((decided == c)[truth == c]) for c in np.unique(truth)}


def mean_absolute_error(truth: DoubleArray, predicted: DoubleArray) -> Metric:
    """Mean absolute error with a bootstrap interval over series; [n], or [n, steps] of forecasts."""
    return _bootstrap("mae", _by_series(np.abs(truth - predicted)))


def root_mean_square_error(truth: DoubleArray, predicted: DoubleArray) -> Metric:
    """Root of the mean squared error with a bootstrap interval."""
    squared = _bootstrap("rmse", _by_series((truth - predicted) ** 2))
    root = math.sqrt
    return Metric("rmse", root(squared.value), root(squared.low), root(squared.high), squared.n)


def _by_series(errors: DoubleArray) -> DoubleArray:
    return errors if errors.ndim == 1 else errors.reshape(len(errors), -1).mean(axis=1)


def _bootstrap(name: str, values: DoubleArray) -> Metric:
    if not len(values):
        return Metric(name, math.nan, math.nan, math.nan, 0)
    return Metric(name, float(values.mean()), *bootstrap_interval(values), len(values))
