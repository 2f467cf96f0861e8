"""`SparseTransformerForecaster`: the next steps of one channel.

Shapes: `n` series, `C` channels, `T` steps, `H` steps to forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin

from edgesparse.estimators.errors import InvalidInputError, as_value_errors
from edgesparse.estimators.estimator import SequenceEstimator, check_lengths
from edgesparse.estimators.panel import to_series_set
from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.data.forecasting import cut_horizon
from edgesparse_runtime.data.series_set import SeriesSet


class SparseTransformerForecaster(RegressorMixin, SequenceEstimator):  # type: ignore[misc]
    """Forecasts the next steps of one channel with the transformer of `edgesparse train --task forecasting`.

    Args:
        horizon: steps to forecast; None = as many as `y` has columns.
        target: the channel to forecast, by name or number.
        window: steps of the windows that long series are cut into for training, the horizon included; None =
            whole series.
        stride: steps between windows; None = `horizon`.
        model: as the other parameters, of `edgesparse.estimators.options.Options`.
    """

    task: ClassVar[str] = "forecasting"

    def __init__(
        self,
        horizon: int | None = None,
        target: str | int = 0,
        window: int | None = None,
        stride: int | None = None,
        model: str | None = None,
        preset: str | None = None,
        attention: str | None = None,
        budget: float | None = None,
        epochs: int | None = None,
        settings: Mapping[str, object] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.horizon = horizon
        self.target = target
        self.window = window
        self.stride = stride
        super().__init__(model, preset, attention, budget, epochs, settings, random_state, n_jobs, verbose)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on series that end in the steps to forecast, or on series and what came next.

        Args:
            X: series, in any form that docs/guides/estimators.md lists.
            y: the next steps [n, H] of the target channel after each series; None = the last `horizon` steps
                of each series are what is learned.

        Raises:
            InvalidInputError: series, steps or parameters that do not fit; a series shorter than 2 H.
        """
        data = to_series_set(X)
        horizon = self._horizon(y)
        channel = self._channel(data)
        if y is not None:
            data = append_steps(data, data.channels.index(channel), to_future(y, data))
        with as_value_errors():
            data = cut_windows(data, horizon, self.window, self.stride)
        self.fitted_ = self._train(data, horizon=horizon, target=channel)
        return self

    def predict(self, X: Any) -> DoubleArray:
        """The steps [n, H] of the target channel that come after each series."""
        return self._scores(X).astype(np.float64)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R2 of the forecasts; without `y` of the last `horizon` steps of each series."""
        if y is None:
            facts = self._fitted().facts
            with as_value_errors():
                past = cut_horizon(
                    to_series_set(X), facts.get("target") or facts["channel"], facts["horizon"]
                )
            X, y = list(past.series), past.labels
        return float(super().score(X, y, sample_weight))

    @classmethod
    def from_bundle(cls, bundle: str | PathLike[str]) -> Self:
        """A fitted forecaster that runs a bundle.

        Raises:
            InvalidInputError: not a forecaster's bundle.
        """
        return cls._from_bundle(bundle)

    def _horizon(self, y: Any) -> int:
        if y is not None:
            columns = np.shape(y)[1] if np.ndim(y) > 1 else 1
            if self.horizon not in (None, columns):
                raise InvalidInputError(
                    f"`y` must have {self.horizon} column(s), the horizon; got {columns}."
                )
            return columns
        return check_steps("horizon", self.horizon)

    def _channel(self, data: SeriesSet) -> str:
        count = len(data.channels)
        if isinstance(self.target, (int, np.integer)) and 0 <= self.target < count:
            return data.channels[self.target]
        if self.target not in data.channels:
            raise InvalidInputError(
                f"`target` must be a channel ({', '.join(data.channels)}) or its number, 0 to {count - 1}; "
                f"got {self.target!r}."
            )
        return str(self.target)


def check_steps(name: str, value: object) -> int:
    """A number of steps.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidInputError(f"`{name}` must be a number of steps from 1 on; got {value!r}.")
    return int(value)


def to_future(y: Any, data: SeriesSet) -> FloatArray:
    """`y` as [n, H] known values.

    Raises:
        InvalidInputError: no numbers, or not one row per series.
    """
    try:
        future = np.asarray(y, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidInputError("`y` must hold numbers [n, horizon].") from None
    check_lengths(data, future, "y")
    future = future[:, None] if future.ndim == 1 else future
    if future.ndim != 2 or not np.isfinite(future).all():
        raise InvalidInputError(f"`y` must be finite numbers [n, horizon]; got shape {list(future.shape)}.")
    return future


def append_steps(data: SeriesSet, row: int, future_nH: FloatArray) -> SeriesSet:
    """The series with the next steps of one channel; those of the others are not known."""
    longer = []
    for x_CT, next_H in zip(data.series, future_nH, strict=True):
        more_CH = np.full((x_CT.shape[0], len(next_H)), np.nan, dtype=np.float32)
        more_CH[row] = next_H
        longer.append(np.concatenate([x_CT, more_CH], axis=1))
    return data.with_series(longer)


def cut_windows(data: SeriesSet, horizon: int, window: int | None, stride: int | None) -> SeriesSet:
    """Windows that end where their series does, and every `stride` steps before."""
    if window is None:
        return data
    steps = check_steps("window", window)
    apart = horizon if stride is None else check_steps("stride", stride)
    if steps < 2 * horizon:
        raise InvalidInputError(f"`window` must be at least twice the horizon ({2 * horizon}); got {steps}.")
    windows = []
    for x_CT in data.series:
        last = x_CT.shape[1] - steps
        starts = range(last % apart, last + 1, apart) if last >= 0 else [0]
        windows += [x_CT[:, start : start + steps] for start in starts]
    return data.with_series(windows)
