"""Does a bundle still say on this machine what it said where it was made?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.bundle import Bundle
from edgesparse_runtime.session import Session

# docs/numerics.md: float32 as between engines; int8 rounds to steps, so it is bounded in the score's unit.
TOLERANCES = {"float32": (1e-4, 1e-5), "int8": (0.0, 0.02)}


@dataclass(frozen=True)
class Check:
    """One boundary.

    Attributes:
        boundary: "float32 scores", "int8 scores", ...
        holds: within tolerance, and no decision flipped.
        largest_difference: from the golden scores.
        decisions_flipped: golden windows that are decided differently; 0 for regression.
        engine: what ran the sparse operator.
    """

    boundary: str
    holds: bool
    largest_difference: float
    decisions_flipped: int
    engine: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(bundle: Bundle, *, threads: int | None = None) -> list[Check]:
    """Run the golden vectors through every model of the bundle (hashes were checked on opening)."""
    return [
        check_golden(Session(bundle, precision=precision, threads=threads)) for precision in bundle.precisions
    ]


def check_golden(session: Session) -> Check:
    """Run the golden vectors of its bundle through one session."""
    bundle = session.bundle
    assert bundle is not None
    golden = bundle.golden()
    actual, expected = session.predict(golden["windows"]), golden[f"scores_{session.precision}"]
    relative, absolute = TOLERANCES[session.precision]
    difference = np.abs(actual - expected)
    flipped = int((actual.argmax(-1) != expected.argmax(-1)).sum()) if bundle.classes else 0
    near = bool((difference <= absolute + relative * np.abs(expected)).all())
    return Check(
        f"{session.precision} scores", near and not flipped, float(difference.max()), flipped, session.engine
    )
