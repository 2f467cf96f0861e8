"""`HarmDetector`: evidence that a model errs more often than it should, from labels that come late."""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.arrays import DoubleArray

# Shares of the largest bet that cannot lose more than it has.
BETS = (0.1, 0.25, 0.5, 0.75)


class HarmDetector:
    """A one-sided Shiryaev-Roberts e-detector on errors between 0 and 1.

    While the expected error stays at or below the limit, an alarm at A comes on average after at least A
    blocks, whatever the errors are otherwise.

    Args:
        limit: the error that is still in order, below 1.
        block: labeled windows whose errors are averaged: neighbors share what makes them err.

    Attributes:
        evidence: one number per bet.
        labels: labeled windows so far; errors: sum of their errors.
    """

    def __init__(self, limit: float, block: int) -> None:
        self.limit, self.block = limit, block
        self._bets: DoubleArray = np.array(BETS) / max(limit, 0.01)
        self.evidence: DoubleArray = np.zeros(len(BETS))
        self.labels = 0
        self.errors = 0.0
        self._sum, self._count = 0.0, 0

    @property
    def combined(self) -> float:
        return float(self.evidence.mean())

    def add(self, error: float) -> bool:
        """Take the error of one labeled window, from 0 to 1; true when it completes a block."""
        self.labels += 1
        self.errors += error
        self._sum += error
        self._count += 1
        if self._count < self.block:
            return False
        gain = self._sum / self._count - self.limit
        self.evidence = (self.evidence + 1) * (1 + self._bets * gain)
        self._sum, self._count = 0.0, 0
        return True

    def restart(self) -> None:
        """Forget all evidence: an alarm was given."""
        self.evidence = np.zeros_like(self.evidence)

    def to_dict(self) -> dict[str, float | int | list[float]]:
        """Its state, of blocks that are complete."""
        return {"evidence": self.evidence.tolist(), "labels": self.labels, "errors": self.errors}

    def restore(self, state: dict[str, float | int | list[float]]) -> None:
        """Resume from `to_dict`."""
        self.evidence = np.array(state["evidence"], dtype=np.float64)
        self.labels, self.errors = int(state["labels"]), float(state["errors"])  # type: ignore[arg-type]
