"""Other detectors of drift on one signal, with their usual settings; each returns the first alarm or -1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgesparse_runtime.arrays import DoubleArray

Detect = Callable[[DoubleArray, DoubleArray, int], int]
# Two-sample Kolmogorov-Smirnov, p < 0.01, every 100 windows.
_KS_WINDOWS, _KS_LIMIT = 100, 1.628
# CUSUM of standardized values: slack and limit of the textbook.
_SLACK, _LIMIT = 0.5, 5.0
# Conformal martingale (simple jumper) at a chance of 1 in 1,000.
_JUMP, _GROWTH = 0.01, 1_000.0


def kolmogorov_smirnov(before: DoubleArray, after: DoubleArray, seed: int) -> int:
    """Each 100 windows against the reference."""
    ordered = np.sort(before)
    share = np.arange(1, _KS_WINDOWS + 1) / _KS_WINDOWS
    limit = _KS_LIMIT * np.sqrt(1 / _KS_WINDOWS + 1 / len(before))
    for end in range(_KS_WINDOWS, len(after) + 1, _KS_WINDOWS):
        part = np.sort(after[end - _KS_WINDOWS : end])
        under = np.searchsorted(ordered, part, "right") / len(ordered)
        if max((share - under).max(), (under - share + 1 / _KS_WINDOWS).max()) > limit:
            return end
    return -1


def cusum(before: DoubleArray, after: DoubleArray, seed: int) -> int:
    """Two-sided, mean and deviation estimated on the reference."""
    high = low = 0.0
    for t, z in enumerate(((after - before.mean()) / before.std()).tolist()):
        high, low = max(0.0, high + z - _SLACK), max(0.0, low - z - _SLACK)
        if max(high, low) > _LIMIT:
            return t + 1
    return -1


def conformal_martingale(before: DoubleArray, after: DoubleArray, seed: int) -> int:
    """Simple jumper on p-values of ranks in the reference, ties broken at random."""
    ordered, rng = np.sort(before), np.random.default_rng(seed)
    below, upto = np.searchsorted(ordered, after, "left"), np.searchsorted(ordered, after, "right")
    p = (below + rng.random(len(after)) * (upto - below + 1)) / (len(ordered) + 1)
    weights, tilts = np.ones(3) / 3, np.array([-1.0, 0.0, 1.0])
    for t, value in enumerate(p.tolist()):
        weights = (1 - _JUMP) * weights + _JUMP * weights.sum() / 3
        weights = weights * (1 + tilts * (value - 0.5))
        if weights.sum() >= _GROWTH:
            return t + 1
    return -1


RIVALS: dict[str, Detect] = {
    "KS": kolmogorov_smirnov,
    "CUSUM": cusum,
    "conformal martingale": conformal_martingale,
}
