"""Do two models decide the same on the same windows?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EqualDecisions:
    """How close two models' outputs are.

    Attributes:
        n: windows.
        equal: share of windows with the same decision; None without classes.
        largest_difference: of any score.
        spread: of the first model's scores, largest minus smallest: the scale of a difference.
    """

    n: int
    equal: float | None
    largest_difference: float
    spread: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_decisions(a: FloatArray, b: FloatArray, *, has_classes: bool) -> EqualDecisions:
    """Compare scores [n, classes or targets] of two models on the same windows."""
    equal = float((a.argmax(-1) == b.argmax(-1)).mean()) if has_classes else None
    return EqualDecisions(
        len(a), equal, float(np.abs(a - b).max(initial=0.0)), float(np.ptp(a)) if a.size else 0.0
    )
