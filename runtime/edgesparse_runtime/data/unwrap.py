"""Clocks that start again: midnight, the repeated hour of summer time, counters that wrap, recordings that
were glued together."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.data.clock import Clock
from edgesparse_runtime.data.times.day_order import DAY

# Samples in a row before the latest one, each later than the one before it, that mean a clock set back.
CLOCK_BACK = 8
# Ranges of counters, in their own units: 16, 24, 31 and 32 bits; seconds and milliseconds of a day.
_RANGES = (2.0**16, 2.0**24, 2.0**31, 2.0**32, 86400.0, 86400e3)
_HOUR = 3600.0
# Months and hours in which a local clock is set back.
_MONTHS, _LAST_HOUR = (3, 4, 9, 10, 11), 4
# Share of falls from which rows are in disorder; recordings that follow each other fall once each.
_MOST_FALLS = 0.2
# Two rows of one recording are further apart than this share of a step, whatever their clock's jitter.
_SAME_STEP = 0.7
_MONTHS_BETWEEN = 100 * DAY


def unwrap(times: DoubleArray, clock: Clock) -> tuple[DoubleArray, str]:
    """Times in file order, running on where the clock started again.

    Returns:
        The times, and in words what was found; "" = nothing.
    """
    steps = np.diff(times)
    back = np.flatnonzero(steps < 0)
    rising = steps[steps > 0]
    if not len(rising):
        return times, ""
    step = float(np.median(rising))
    added, words = np.zeros(len(times)), ""
    if clock.kind == "time of day":
        for i in back[steps[back] < -DAY / 2]:
            added[i + 1 :] += DAY
            words = "the time of day runs on over midnight"
    elif clock.kind == "number" and not clock.is_calendar:
        for i in back:
            length = _wrapped(times[i] / clock.unit, times[i + 1] / clock.unit, step / clock.unit)
            if length:
                added[i + 1 :] += length * clock.unit
                words = f"a counter wraps after {length:g}"
    elif clock.is_local:
        # Of hourly data the second of the two hours has the stamp of the first.
        set_back = [
            i
            for i in np.flatnonzero(steps <= 0)
            if abs(steps[i] - (step - _HOUR)) <= 0.1 * step and _may_be_set_back(times[i])
        ]
        # Once a year; hourly rows that all stand twice are something else.
        if all(times[b] - times[a] > _MONTHS_BETWEEN for a, b in itertools.pairwise(set_back)):
            for i in set_back:
                added[i + 1 :] += _HOUR
                words = "an hour stands twice, as at the end of summer time"
    moved = times + added
    # Rows in disorder fall as often as they rise: that is no clock that starts again.
    if words and (np.diff(moved) >= 0).mean() > 0.98:
        return moved, words
    return times, ""


def _wrapped(before: float, after: float, step: float) -> float:
    """The range of a counter that wrapped between two values; 0 = it did not."""
    for length in _RANGES:
        if before < length and after < 2 * step + 1 and abs(before + step - length - after) <= 0.6 * step:
            return length
    return 0.0


def _may_be_set_back(seconds: float) -> bool:
    local = datetime.fromtimestamp(seconds, UTC)
    return local.month in _MONTHS and local.hour < _LAST_HOUR


def split_glued(times: DoubleArray) -> list[IndexArray]:
    """Rows of each recording among times in file order: one, unless the clock was set back into times that it
    had shown already. Rows in disorder, single ones or whole stretches, are one recording: no two of them
    show the same time."""
    rows = np.arange(len(times))
    distances = np.diff(times)
    is_fall = distances < 0
    if not is_fall.any() or is_fall.mean() > _MOST_FALLS or not (distances > 0).any():
        return [rows]
    step = float(np.median(distances[distances > 0]))
    starts, falls = [0], [*(np.flatnonzero(is_fall) + 1).tolist(), len(times)]
    for i, end in itertools.pairwise(falls):
        after, before = times[i:end], np.sort(times[starts[-1] : i])
        if (
            len(after) >= CLOCK_BACK
            and after[CLOCK_BACK - 1] <= before[-1]
            and _is_shown(before, after, step)
        ):
            starts.append(i)
    return np.split(rows, starts[1:])


def _is_shown(before: DoubleArray, after: DoubleArray, step: float) -> bool:
    """Whether most of the times `after` that lie among those in order `before` are less than a step away from
    one of them: they belong to another recording, since a step has one row."""
    inside = after[(after >= before[0]) & (after <= before[-1])]
    if not len(inside):
        return False
    right = np.searchsorted(before, inside)
    nearest = np.minimum(np.abs(before[right] - inside), np.abs(before[np.maximum(right - 1, 0)] - inside))
    return bool((nearest < _SAME_STEP * step).mean() > 0.5)
