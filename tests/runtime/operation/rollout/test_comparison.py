"""What is counted of a trial on windows that were answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.operation.rollout.comparison import compare


class Trial:
    """Scores are the first two values of each window; it fails on a run with a window that begins with 9."""

    def predict(self, windows: Any, *, batch_size: int) -> Any:
        assert batch_size == len(windows)
        if (windows[:, 0, 0] == 9).any():
            raise InputError("nine")
        return windows[:, 0, :2]


def windows(*pairs: tuple[float, float]) -> Any:
    return np.array(pairs, np.float32)[:, None, :]


def test_decisions_differences_and_failures_are_counted_by_window() -> None:
    asked = windows((1, 0), (0, 1), (9, 0), (np.nan, 1), (0.5, 0))
    scores = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    ticks = iter(range(100))
    found = compare(Trial(), asked, scores, 10.0, lambda: next(ticks))  # type: ignore[arg-type]
    assert (found.windows, found.equal, found.failed, found.late) == (5, 2, 2, 0)
    # One of five failed: its share of the time is left out, as it has none of the trial.
    assert found.current_s == pytest.approx(8.0) and found.trial_s == 4
    assert found.difference == pytest.approx(0 + 1 + 0.25)


def test_one_run_is_timed_as_one() -> None:
    ticks = iter([0.0, 3.0])
    asked = windows((1, 0), (0, 1))
    found = compare(Trial(), asked, asked[:, 0], 2.0, lambda: next(ticks))  # type: ignore[arg-type]
    assert (found.windows, found.equal, found.current_s, found.trial_s) == (2, 2, 2.0, 3.0)
