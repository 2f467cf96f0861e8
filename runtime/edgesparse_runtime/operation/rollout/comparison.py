"""What a bundle on trial does on the windows that were answered: counts of the store's record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.model_inputs import WindowData
from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.operation.rollout.store import Store
from edgesparse_runtime.session import Session


@dataclass
class Counts:
    """Sums over windows.

    Attributes:
        windows: that the trial was given.
        equal: decisions alike; failed: windows that the trial did not answer; late: missed deadlines.
        current_s, trial_s: seconds of the predictions.
        difference: mean absolute difference between the scores of a window, summed over windows.
    """

    windows: int = 0
    equal: int = 0
    failed: int = 0
    late: int = 0
    current_s: float = 0.0
    trial_s: float = 0.0
    difference: float = 0.0

    def add(self, other: Counts) -> None:
        """Add `other` to these."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def write(self, store: Store, sha256: str) -> None:
        """Add these to the store's record of a bundle; nothing where that is no longer on trial."""
        if self.windows or self.late:
            rows = self.windows, self.equal, self.failed, self.late
            store.count(*rows, self.current_s, self.trial_s, of=sha256)


def compare(
    trial: Session,
    windows: WindowData,
    scores_NK: FloatArray,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Counts:
    """Run the trial on windows that were answered with `scores_NK` in `seconds`.

    Where several fail together, each runs alone; scores that are not finite are no answer.
    """
    rows, began = len(scores_NK), clock()
    try:
        other = trial.predict(windows, batch_size=max(1, rows))
    except EdgeSparseError:
        if rows == 1 or not isinstance(windows, np.ndarray):
            return Counts(windows=rows, failed=rows)
        found = Counts()
        for row in range(rows):
            part = slice(row, row + 1)
            found.add(compare(trial, windows[part], scores_NK[part], seconds / rows, clock))
        return found
    took, is_answer = clock() - began, np.isfinite(other).all(axis=-1)
    is_equal = is_answer & (other.argmax(axis=-1) == scores_NK.argmax(axis=-1))
    apart = np.abs(other[is_answer] - scores_NK[is_answer]).mean(axis=-1)
    return Counts(rows, int(is_equal.sum()), int((~is_answer).sum()), 0, seconds, took, float(apart.sum()))
