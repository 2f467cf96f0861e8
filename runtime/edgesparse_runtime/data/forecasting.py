"""Forecasting data: the past and the steps to forecast, and the naive forecasts to beat.

Shapes: `C` channels, `T` steps, `H` steps to forecast, `n` series.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

# A lag counts as a season when series resemble themselves that much after it (autocorrelation).
LEAST_RESEMBLANCE = 0.3
# Series that a season is estimated from.
MOST_SERIES = 64


def cut_horizon(data: SeriesSet, channel: str, horizon: int) -> SeriesSet:
    """The series without their last `horizon` steps; those steps of `channel` are the labels [n, H].

    Args:
        channel: its name; "" = the first.

    Raises:
        InputError: no such channel, a series that is too short, or an end with missing values.
    """
    source = data.source or "The data"
    name = channel or data.channels[0]
    if name not in data.channels:
        raise InputError(
            f"{source} must have the channel {name} to forecast; it has {', '.join(data.channels)}."
        )
    row = data.channels.index(name)
    for i, x in enumerate(data.series):
        if x.shape[1] < 2 * horizon:
            raise InputError(
                f"{source}: series {i + 1} must have at least {2 * horizon} steps to forecast {horizon}; "
                f"got {x.shape[1]}. Use a shorter horizon or longer windows."
            )
        if np.isnan(x[row, -horizon:]).any():
            raise InputError(f"{source}: series {i + 1} must end in {horizon} known values of {name}.")
    future = np.array([x[row, -horizon:] for x in data.series], dtype=np.float64).reshape(-1, horizon)
    past = [x[:, :-horizon] for x in data.series]
    return data.with_series(past, labels=future)


def last_value(past: SeriesSet, channel: str, horizon: int) -> DoubleArray:
    """The naive forecast: the last known value at every step, [n, H]."""
    row = past.channels.index(channel or past.channels[0])
    return np.array([np.full(horizon, _filled(x[row])[-1]) for x in past.series])


def seasonal_values(past: SeriesSet, channel: str, horizon: int, season: int) -> DoubleArray:
    """The seasonal naive forecast: the value a season (or two, ...) before each step, [n, H]."""
    row = past.channels.index(channel or past.channels[0])
    found = []
    for x in past.series:
        known = _filled(x[row])
        # A season longer than the past is unknown: the last value is used.
        lag = season if 0 < season <= len(known) else 1
        found.append(known[len(known) - lag + np.arange(horizon) % lag])
    return np.array(found)


def estimate_season(past: SeriesSet, channel: str) -> int:
    """The lag after which series resemble themselves most; 0 = none that deserves the name.

    The highest peak of the mean autocorrelation beyond its first fall below zero, up to half of the
    shortest series.
    """
    row = past.channels.index(channel or past.channels[0])
    longest = min(x.shape[1] for x in past.series) // 2
    if longest < 3:
        return 0
    mean = np.zeros(longest + 1)
    rows = np.unique(np.linspace(0, len(past) - 1, MOST_SERIES).astype(int))
    for i in rows:
        known = _filled(past.series[i][row])
        known = known - known.mean()
        power = float(known @ known)
        if power <= 0:
            continue
        for lag in range(longest + 1):
            # By as many products as there are: a long lag must not look weaker for having fewer.
            rest = len(known) - lag
            mean[lag] += (known[lag:] @ known[:rest]) / power * len(known) / rest
    mean /= len(rows)
    below = np.flatnonzero(mean < 0)
    if not len(below):
        return 0
    inner = np.arange(max(2, below[0]), longest)
    peaks = inner[(mean[inner] >= mean[inner - 1]) & (mean[inner] >= mean[inner + 1])]
    peaks = peaks[mean[peaks] >= LEAST_RESEMBLANCE]
    if not len(peaks):
        return 0
    # Multiples of the season peak as high: the first that comes near the highest is the season.
    return int(peaks[mean[peaks] >= 0.9 * mean[peaks].max()][0])


def _filled(values: npt.NDArray[np.float32]) -> DoubleArray:
    """Missing values become the last known one before them; those at the start the first known one."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.zeros(len(values), dtype=np.float64)
    index = known[np.maximum(np.searchsorted(known, np.arange(len(values)), side="right") - 1, 0)]
    return np.asarray(values[index], dtype=np.float64)
