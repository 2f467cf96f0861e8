"""What one bundle answers on labeled windows: as they are, with noise, and on windows of no class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import BoolArray
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import decide, disturb, known_labels
from edgesparse_runtime.evaluation.unknown import evaluate_unknown
from edgesparse_runtime.session import Session

# Of each channel's spread.
NOISE = 0.05
Decide = Callable[[SeriesSet], npt.NDArray[np.str_]]


def measure_answers(session: Session, data: SeriesSet) -> dict[str, Any]:
    """As `measure_decisions`, and the rates of windows called unknown; None where the model cannot tell.

    Raises:
        InputError: no labels, or a class that the model does not know.
    """
    found = measure_decisions(
        lambda windows: decide(session.predict(windows), session.classes), data, session.classes
    )
    unknown = evaluate_unknown(session, data)
    return found | {"unknown": None if unknown is None else unknown.to_dict()}


def measure_decisions(decisions: Decide, data: SeriesSet, classes: tuple[str, ...]) -> dict[str, Any]:
    """What is right of the windows, with noise of `NOISE` too, and which class was taken for which.

    `right` and `noisy` have a character per window, 1 = right; row and column of `confusion` are classes.
    """
    if data.labels is None:
        raise InputError(f"{data.source or 'The data'} must have labels to evaluate on; there are none.")
    truth = np.asarray(known_labels(data.labels, classes, data.source), dtype=np.str_)
    decided = decisions(data)
    noisy = decisions(disturb(data, "noise", NOISE))
    confusion = [[int(((truth == a) & (decided == b)).sum()) for b in classes] for a in classes]
    return {
        "right": as_text(decided == truth),
        "noisy": as_text(noisy == truth),
        "confusion": confusion,
    }


def as_text(right: BoolArray) -> str:
    """One character per window, so that stored results stay small and can be compared by window."""
    return "".join("1" if r else "0" for r in right)


def from_text(right: str) -> npt.NDArray[np.float64]:
    """What `as_text` wrote, as 0.0 and 1.0."""
    return np.array([float(c) for c in right], dtype=np.float64)
