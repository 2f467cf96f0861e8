"""How many windows make a block, and how far the mean of a block's ranks may lie from a half.

Windows that overlap, and machines that change slowly, give values that are correlated: tests that assume
otherwise alarm on everything. Means over blocks of at least ten correlation times are nearly independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from edgesparse_runtime.arrays import DoubleArray

CORRELATION_TIMES = 10
# With fewer blocks a reference tells too little of how its means vary.
FEWEST_BLOCKS = 20
LEAST_TOLERANCE, MOST_TOLERANCE = 0.01, 0.2
# Correlation between neighboring block means from which on blocks are doubled.
_MOST_CORRELATION = 0.25
# Chance that the reference's error exceeds the tolerance for any signal.
_MISS = 0.01


@dataclass(frozen=True)
class Blocks:
    """How a stream of ranks is averaged.

    Attributes:
        windows: of a block.
        count: whole blocks of the reference.
        tolerance: [signals], how far the mean rank may be from a half without counting as a change.
    """

    windows: int
    count: int
    tolerance: DoubleArray

    @property
    def problem(self) -> str:
        """Why no rate of false alarms can be promised; "" where one can."""
        if self.count < FEWEST_BLOCKS:
            need = FEWEST_BLOCKS * self.windows
            return (
                f"no rate can be promised: the reference has {self.count} blocks of {self.windows:,} "
                f"windows, and {FEWEST_BLOCKS} are needed ({need:,} windows)"
            )
        if (self.tolerance >= MOST_TOLERANCE).any():
            return "no rate can be promised: the reference varies too much from block to block"
        return ""


def measure_blocks(
    ranks_NS: DoubleArray, overlap: int = 1, groups: np.ndarray[tuple[int], np.dtype[np.str_]] | None = None
) -> Blocks:
    """Blocks for ranks like those of a reference.

    Args:
        ranks_NS: in the order of time; NaN = missing.
        overlap: window over stride: so many windows share a step.
        groups: machine of each window; a new machine may differ as these do among themselves.
    """
    filled = np.where(np.isnan(ranks_NS), 0.5, ranks_NS)
    longest = max((correlation_time(column) for column in filled.T), default=0.0)
    windows = max(1, overlap, int(np.ceil(CORRELATION_TIMES * max(longest, 1.0))))
    while len(filled) // (2 * windows) >= FEWEST_BLOCKS and _is_correlated(filled, windows):
        windows *= 2
    means = block_means(filled, windows)
    count = len(means)
    signals = max(1, filled.shape[1])
    tolerance = np.full(filled.shape[1], MOST_TOLERANCE)
    if count > 1:
        width = NormalDist().inv_cdf(1 - _MISS / (2 * signals)) * (1 + 4 / count)
        tolerance = width * means.std(axis=0, ddof=1) / np.sqrt(count)
    if groups is not None and len(set(groups.tolist())) > 1:
        by_group = np.stack([filled[groups == group].mean(axis=0) for group in np.unique(groups)])
        tolerance = np.maximum(tolerance, by_group.std(axis=0, ddof=1))
    return Blocks(windows, count, np.clip(tolerance, LEAST_TOLERANCE, MOST_TOLERANCE))


def block_means(ranks_NS: DoubleArray, windows: int) -> DoubleArray:
    """Means of whole blocks, [blocks, signals]; what is left at the end is not used."""
    count = len(ranks_NS) // windows
    whole = ranks_NS[: count * windows].reshape(count, windows, ranks_NS.shape[1])
    return np.asarray(whole.mean(axis=1))


def correlation_time(column: DoubleArray) -> float:
    """Windows until the autocorrelation falls below 1/e; 0 for a constant."""
    centered = column - column.mean()
    power = float(centered @ centered)
    if len(column) < 3 or power < 1e-12 * len(column):
        return 0.0
    size = 1 << (2 * len(column) - 1).bit_length()
    spectrum = np.fft.rfft(centered, size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, size)[: len(column)] / power
    below = np.flatnonzero(correlation < np.exp(-1))
    if not len(below):
        return float(len(column))
    i = int(below[0])
    before, after = correlation[i - 1], correlation[i]
    return float(i - 1 + (before - np.exp(-1)) / (before - after))


def _is_correlated(ranks_NS: DoubleArray, windows: int) -> bool:
    """Do neighboring block means tell more of each other than chance does?"""
    means = block_means(ranks_NS, windows)
    centered = means - means.mean(axis=0)
    power = (centered**2).sum(axis=0)
    along = (centered[1:] * centered[:-1]).sum(axis=0) / np.where(power > 0, power, 1)
    return bool((np.abs(along) > max(_MOST_CORRELATION, 3 / np.sqrt(len(means)))).any())
