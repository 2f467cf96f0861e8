"""`Detector`: evidence that the mean of a bounded number has moved, by Shiryaev-Roberts e-detectors.

For each signal and each side, three bets of different sizes: M <- (M + 1) (1 + bet (mean - 1/2 - tolerance)).
While the conditional mean of a block stays within the tolerance, M minus the number of blocks is a
supermartingale; so is any average of such M. Hence an alarm at M >= A comes on average after at least A
blocks, and within n blocks with a probability of at most n / A. Source: Shin, Ramdas, Rinaldo, "E-detectors",
New England Journal of Statistics in Data Science 2, 2024.
"""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.arrays import DoubleArray

# Shares of the largest bet that cannot lose more than it has.
BETS = (0.25, 0.5, 0.75)


class Detector:
    """Two-sided evidence per signal, combined by the mean.

    Args:
        tolerance: [signals, ...]; further axes are streams of their own.

    Attributes:
        evidence: [side, bet, signals, ...]; side 0 = above the reference, 1 = below.
    """

    def __init__(self, tolerance: DoubleArray) -> None:
        self._tolerance = tolerance
        sides = np.array([1.0, -1.0]).reshape(2, *[1] * tolerance.ndim)
        self._sides = sides
        bets = np.array(BETS).reshape(3, *[1] * tolerance.ndim) / (0.5 + tolerance)
        self._bets = bets
        self.evidence: DoubleArray = np.zeros((2, 3, *tolerance.shape))

    def update(self, means: DoubleArray) -> DoubleArray:
        """Take the mean ranks of one block, [signals, ...]; NaN = the signal was missing.

        Returns:
            the combined evidence [...]: the mean over sides, bets and signals.
        """
        gain = self._sides * (means - 0.5) - self._tolerance
        after = (self.evidence + 1) * (1 + self._bets * gain[:, None])
        # A signal that is missing neither gains nor loses.
        self.evidence = np.where(np.isnan(after), self.evidence, after)
        return self.combined

    @property
    def combined(self) -> DoubleArray:
        """The mean over sides, bets and signals."""
        return np.asarray(self.evidence.mean(axis=(0, 1, 2)))

    def by_signal(self) -> DoubleArray:
        """Evidence of each side and signal, [side, signals, ...]."""
        return np.asarray(self.evidence.mean(axis=1))

    def restart(self) -> None:
        """Forget all evidence: an alarm was given."""
        self.evidence = np.zeros_like(self.evidence)
