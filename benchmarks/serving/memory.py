"""The slope of a server's memory under load and reloads, with its interval.

Each reload moves resident memory up by a model and down again, so single samples say little. A line through
the means of blocks of some seconds, each of several reloads, and how far they lie from it, give slope and
interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_SECONDS = 5.0
# The first share of the time is left out: caches fill, and arenas take their size.
WARM_UP = 0.25
LEAST_BLOCKS = 6
# Student's t at 97.5 %, by degrees of freedom.
_STUDENT = {4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 15: 2.13, 20: 2.09, 30: 2.04, 60: 2.00}


@dataclass(frozen=True)
class Growth:
    """Growth per unit, its error, and how many errors to each side hold the truth in 95 % of cases."""

    value: float
    error: float
    factor: float = 1.96

    @property
    def low(self) -> float:
        """Of the interval."""
        return self.value - self.factor * self.error

    @property
    def high(self) -> float:
        """The other end."""
        return self.value + self.factor * self.error

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


# Nothing is known: the interval holds every value.
UNKNOWN = Growth(0.0, math.inf)


def growth(memory: Sequence[tuple[float, float]], units_per_second: float) -> Growth:
    """Growth in MB a unit.

    Args:
        memory: seconds and MB.
        units_per_second: requests, thousands of them, or reloads.

    Returns:
        `UNKNOWN` when the time is too short to tell.
    """
    times, sizes = np.array(memory, dtype=float).reshape(-1, 2).T
    if not len(times) or units_per_second <= 0:
        return UNKNOWN
    warm = times >= times[0] + WARM_UP * (times[-1] - times[0])
    times, sizes = times[warm], sizes[warm]
    block = ((times - times[0]) // BLOCK_SECONDS).astype(int)
    # What is left after the last whole block is too short for a mean.
    blocks = range(int((times[-1] - times[0]) // BLOCK_SECONDS))
    if len(blocks) < LEAST_BLOCKS:
        return UNKNOWN
    x = np.array([times[block == i].mean() for i in blocks])
    y = np.array([sizes[block == i].mean() for i in blocks])
    slope, offset = np.polyfit(x, y, 1)
    spread = ((y - slope * x - offset) ** 2).sum() / (len(x) - 2)
    error = math.sqrt(spread / ((x - x.mean()) ** 2).sum())
    factor = _STUDENT[max(n for n in _STUDENT if n <= len(x) - 2)]
    return Growth(float(slope) / units_per_second, error / units_per_second, factor)


def pooled(parts: Sequence[Growth]) -> Growth:
    """One figure from several runs, each weighted by what it tells."""
    weights = np.array([part.error**-2.0 if part.error > 0 else math.inf for part in parts])
    if not np.isfinite(weights).all() or not weights.sum():
        return UNKNOWN
    values = np.array([part.value for part in parts])
    return Growth(
        float((weights * values).sum() / weights.sum()),
        float(weights.sum() ** -0.5),
        max(p.factor for p in parts),
    )
