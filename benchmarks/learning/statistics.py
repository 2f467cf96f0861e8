"""Paired comparison of two models over sets, seeds and test series, with bootstrap intervals.

Test series are the same for all models and seeds of a set, so they are drawn once for both; seeds are drawn
too. Sets are fixed: the interval says nothing about sets that were not tried.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

# A set's results of one model: [seeds, test series], 1 = right.
Rights = npt.NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean of accuracies, or of differences of them, with its 95 % interval; 0.01 is one point."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def mean_over_sets(rights: list[Rights]) -> Estimate:
    """Mean accuracy of one model."""
    return _estimate(rights, [np.zeros_like(r) for r in rights])


def paired_difference(ours: list[Rights], rival: list[Rights]) -> Estimate:
    """Mean over sets of our accuracy minus the rival's; both lists in the same order of sets.

    Where one has more seeds than the other, the seeds that both have are compared.
    """
    pairs = [(a[: len(b)], b[: len(a)]) for a, b in zip(ours, rival, strict=True)]
    return _estimate([a for a, _ in pairs], [b for _, b in pairs])


def _estimate(ours: list[Rights], rival: list[Rights]) -> Estimate:
    rng = np.random.default_rng(0)
    draws = np.zeros(RESAMPLES)
    value = 0.0
    for a, b in zip(ours, rival, strict=True):
        difference = a - b
        seeds, n = difference.shape
        value += difference.mean() / len(ours)
        # Over the seeds drawn first: a draw is then one weighted mean over test series.
        by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
        by_series = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
        draws += np.einsum("rs,sn,rn->r", by_seed, difference, by_series, optimize=True) / len(ours)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))
