"""Times to steps of an even grid: the one rule of gaps, repeats and jumps, for files and streams.

docs/guides/data.md, "The grid". `StepGrid` places one sample after the other, as a stream does; `place_rows`
does the same for a whole recording whose rows are in time order.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.data.times.coarse_clock import rounded_period

# How far the grid follows a sample that is off it: a clock that runs a little fast never adds up to a gap.
FOLLOW = 0.1
# A step of the grid where the data have no row.
NO_ROW = -1
# Missing steps in a row that are filled, as a share of the window; a longer gap restarts it.
MAX_GAP = 0.1
# Steps whose distance is a whole number of periods, nearly: below this share there is no grid.
_LEAST_EVEN, _NEARLY = 0.7, 0.3
# Within this share of a period every row is one step after the row before it, whatever the grid follows.
_SURE = 0.5 * FOLLOW


class StepGrid:
    """Where a grid stands: the time of its last step, and which step another time falls on.

    Attributes:
        last: time of the last step; None before the first.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self.last: float | None = None

    def place(self, time: float) -> int:
        """Steps after the last one; 0 is the same step, below 0 is before it. The first is 1."""
        if self.last is None:
            return 1
        return round(min(max((time - self.last) / self.period, -1e15), 1e15))

    def advance(self, time: float, place: int) -> None:
        """The sample of `time` is the step at `place`."""
        if self.last is None:
            self.last = time
        else:
            expected = self.last + place * self.period
            self.last = expected + FOLLOW * (time - expected)

    def restart(self) -> None:
        """Forget where it stood."""
        self.last = None


@dataclass(frozen=True)
class Placed:
    """Rows on a grid.

    Attributes:
        pieces: of each stretch without a long gap, the row of every step; `NO_ROW` = missing.
        repeats: rows on a step that had one already, and the row that it had.
        filled: missing steps inside the pieces.
    """

    pieces: list[IndexArray]
    repeats: list[tuple[int, int]]
    filled: int


def place_rows(times: DoubleArray, period: float, max_gap: int) -> Placed:
    """Rows in time order to steps.

    Args:
        times: [n], never falling.
        period: seconds between steps.
        max_gap: missing steps in a row that are filled.
    """
    rows = np.arange(len(times))
    if not len(times) or bool((np.abs(np.diff(times) - period) < _SURE * period).all()):
        return Placed([rows], [], 0)
    grid = StepGrid(period)
    pieces: list[list[int]] = [[]]
    repeats: list[tuple[int, int]] = []
    filled = 0
    for row, time in enumerate(times.tolist()):
        place = grid.place(time)
        if place <= 0:
            repeats.append((row, next(r for r in reversed(pieces[-1]) if r != NO_ROW)))
            continue
        if place - 1 > max_gap:
            grid.restart()
            pieces.append([])
            place = 1
        elif pieces[-1]:
            pieces[-1] += [NO_ROW] * (place - 1)
            filled += place - 1
        pieces[-1].append(row)
        grid.advance(time, place)
    return Placed([np.array(piece, dtype=np.int64) for piece in pieces], repeats, filled)


def estimate_period(times: Sequence[float]) -> float:
    """Seconds between steps: the span over the number of steps that the median distance gives it.

    1 where no two times differ.
    """
    ordered = sorted(times)
    rounded = rounded_period(np.array(ordered, dtype=np.float64))
    if rounded is not None:
        return rounded
    distances = [b - a for a, b in itertools.pairwise(ordered) if b > a]
    if not distances:
        return 1.0
    median = statistics.median(distances)
    steps = sum(round(d / median) for d in distances)
    return sum(distances) / steps if steps else median


def period_of(times: DoubleArray) -> float | None:
    """The period of times in order; None where they are not evenly spaced, or fewer than two differ."""
    distances = np.diff(times)
    distances = distances[distances > 0]
    if not len(distances):
        return None
    median = float(np.median(distances))
    steps = np.round(distances / median)
    # Long gaps are counted in steps of a guess, and would carry its error many times over.
    near = (steps >= 1) & (steps <= 10)
    is_even = near & (np.abs(distances - steps * median) <= _NEARLY * median)
    if is_even.mean() < _LEAST_EVEN:
        return None
    return float(distances[is_even].sum() / steps[is_even].sum())
