"""Calls at a fixed rate, as a line delivers windows, and how many answers come too late."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.evaluation.metrics import wilson_interval
from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.session import Session


@dataclass(frozen=True)
class Paced:
    """Answers under a paced load; times in milliseconds, from when a window was due to its answer.

    Counting from the due time and not from the start of the call means that a slow answer delays those
    behind it in the figures too, as it does in reality.

    Attributes:
        rate: windows due per second.
        deadline: after which an answer is late.
        calls: how many were due.
        missed: answers that were late.
        p50, p99, max: of the time to the answer.
        busy: share of the time that was spent computing.
        served: windows answered per second.
    """

    rate: float
    deadline: float
    calls: int
    missed: int
    p50: float
    p99: float
    max: float
    busy: float
    served: float

    @property
    def missed_share(self) -> float:
        """Late answers as a share of all."""
        return self.missed / self.calls

    @property
    def verdict(self) -> str:
        """Whether the deadline held, for how many calls, and what that many calls can tell."""
        _, most = wilson_interval(self.missed, self.calls)
        load = f"at {self.rate:g} window{'' if self.rate == 1 else 's'} per second"
        if self.missed:
            return (
                f"Deadline missed: {self.missed:,} of {self.calls:,} answers later than "
                f"{self.deadline:.4g} ms {load}."
            )
        return (
            f"Deadline met: all {self.calls:,} answers within {self.deadline:.4g} ms {load} "
            f"(from this many calls, up to {most:.1%} may be late)."
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"missed_share": self.missed_share}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Paced:
        """Read what `to_dict` wrote."""
        return cls(**{name: value for name, value in found.items() if name != "missed_share"})


def pace(session: Session, inputs: Inputs, *, rate: float, deadline: float | None, seconds: float) -> Paced:
    """Call `rate` times per second for `seconds`, at least ten times.

    Args:
        deadline: milliseconds; None = until the next window is due.
    """
    period = 1.0 / rate
    allowed = 1e3 * period if deadline is None else deadline
    count = max(10, round(seconds * rate))
    answers, computing = np.empty(count), 0.0
    session.predict(inputs.next(), batch_size=inputs.batch)
    window = inputs.next()
    start = time.perf_counter()
    for i in range(count):
        due = start + i * period
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        began = time.perf_counter()
        session.predict(window, batch_size=inputs.batch)
        ended = time.perf_counter()
        answers[i], computing = 1e3 * (ended - due), computing + ended - began
        # The next window is made in what would be idle time.
        window = inputs.next()
    whole = time.perf_counter() - start
    p50, p99 = np.percentile(answers, [50, 99])
    return Paced(
        rate=rate,
        deadline=allowed,
        calls=count,
        missed=int((answers > allowed).sum()),
        p50=float(p50),
        p99=float(p99),
        max=float(answers.max()),
        busy=computing / whole,
        served=count / whole,
    )
