"""What numbers in a column of times count: seconds, finer units, or days since some epoch.

The column's name decides, then the size of the numbers; docs/guides/data.md, "Time".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.data.times.day_order import DAY, Place
from edgesparse_runtime.errors import InputError

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# Numbers beyond are epochs in a finer unit: seconds end at the year 5138.
LONGEST = 1e11
_SPELLINGS = {
    1.0: ("s", "sec", "secs", "second", "seconds"),
    1e-3: ("ms", "msec", "millis", "millisecond", "milliseconds"),
    1e-6: ("us", "µs", "μs", "usec", "micros", "microsecond", "microseconds"),
    1e-9: ("ns", "nsec", "nanos", "nanosecond", "nanoseconds"),
    60.0: ("min", "minute", "minutes"),
    3600.0: ("h", "hour", "hours"),
}


class Scale(NamedTuple):
    """Seconds of one count; and of its zero, since 1970, where it is a known day (None = any start).

    Attributes:
        is_known: the unit is known, not assumed to be seconds.
    """

    unit: float
    epoch: float | None = None
    is_known: bool = True


# Between these numbers lie the years around 2000 to 2070 of what counts 100 ns: Windows since 1601, .NET
# since the year 1.
_HUNDRED_NS = (
    (1.2e17, 1.5e17, datetime(1601, 1, 1, tzinfo=UTC).timestamp()),
    (6.3e17, 6.6e17, datetime(1, 1, 1, tzinfo=UTC).timestamp()),
)
# The same of what counts days: Unix's, Excel's, Matlab's and Julian days. Their fraction is the time of day.
_DAYS = (
    (1.4e4, 2e4, 0.0),
    (2e4, 8e4, datetime(1899, 12, 30, tzinfo=UTC).timestamp()),
    (7e5, 8e5, -719529 * DAY),
    (2.4e6, 2.5e6, -2440587.5 * DAY),
)
# Steps of days: up to two seconds, or whole minutes, which are no usual step of a count of seconds.
_TWO_SECONDS, _HALF_A_DAY = 2.4e-5, 0.5
_MINUTES_OF_DAY = 1440.0
# Epochs in seconds lie above; below, a count may grow a thousandfold from one row to the next.
_FIRST_EPOCH = 1e9
_UNIT_JUMPS = (1e3, 1e6, 1e9)


def unit_of_name(name: str) -> float | None:
    """Seconds of the unit that a column's name states: "ms", "time_ms", "t [s]", "Time (sec)"."""
    words = re.findall(r"[a-zµμ]+", name.lower())
    last = words[-1] if words else ""
    for unit, spellings in _SPELLINGS.items():
        if last in spellings:
            return unit
    return None


def scale_of(numbers: DoubleArray, unit: str | None, name: str) -> Scale:
    """Seconds, unless `unit`, the column's name or the size of its numbers tells otherwise."""
    if unit is not None:
        return Scale(UNITS[unit])
    named = unit_of_name(name)
    if named is not None:
        return Scale(named)
    lowest, largest = float(numbers.min()), float(np.abs(numbers).max())
    for low, high, epoch in _HUNDRED_NS:
        if low < lowest and largest < high:
            return Scale(1e-7, epoch)
    for low, high, epoch in _DAYS:
        if low < lowest and largest < high and _steps_are_of_days(numbers):
            return Scale(DAY, epoch)
    sizes = ((LONGEST, 1.0), (1e3 * LONGEST, 1e-3), (1e6 * LONGEST, 1e-6))
    seconds = next((seconds for size, seconds in sizes if largest < size), 1e-9)
    return Scale(seconds, is_known=seconds != 1.0)


def _steps_are_of_days(numbers: DoubleArray) -> bool:
    steps = np.diff(np.sort(numbers))
    steps = steps[steps > 0]
    if not len(steps):
        return False
    step = float(np.median(steps))
    minutes = step * _MINUTES_OF_DAY
    is_whole = round(minutes) >= 1 and abs(minutes - round(minutes)) <= 0.005
    return step < _TWO_SECONDS or (is_whole and step <= _HALF_A_DAY)


def check_one_unit(numbers: DoubleArray, name: str, place: Place) -> None:
    """Raises `InputError` where epochs of one unit follow those of another."""
    before, after = numbers[:-1], numbers[1:]
    is_epoch = (before >= _FIRST_EPOCH) & (after >= _FIRST_EPOCH)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(is_epoch, np.maximum(before, after) / np.minimum(before, after), 1.0)
    jumps = np.zeros(len(ratio), dtype=np.bool_)
    for factor in _UNIT_JUMPS:
        jumps |= np.abs(ratio - factor) <= 0.01 * factor
    if jumps.any():
        i = int(jumps.argmax()) + 1
        raise InputError(
            f"{place(i)}: {name} must count one unit; got {numbers[i]:.0f} after {numbers[i - 1]:.0f}."
        )
