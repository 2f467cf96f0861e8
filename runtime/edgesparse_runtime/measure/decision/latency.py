"""How long the bundles of a decision take on this machine: one thread, one window, interleaved calls.

Energy cannot be told apart in interleaved calls: where the processor counts it, each model then runs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from edgesparse_runtime.measure.decision.energy import measure_joules
from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.measure.interleaved import find_ratio, time_rounds
from edgesparse_runtime.session import Session

# Fewer calls have no 99th percentile: their slowest one is given for it.
ENOUGH_FOR_P99 = 100


def time_bundles(sessions: Mapping[str, Session], seconds: float) -> dict[str, Any]:
    """Milliseconds and joules per window, and the first session's time over each as a ratio with interval.

    Args:
        sessions: by name; all get the same windows, made from the golden ones of the first.
        seconds: computing time per session.
    """
    inputs = Inputs(next(iter(sessions.values())))
    times = time_rounds(list(sessions.values()), inputs.next, seconds * len(sessions))
    rows = {}
    for (name, session), own in zip(sessions.items(), times, strict=True):
        ratio = find_ratio(np.stack([times[0], own]))
        p50, p99 = np.percentile(own, [50, 99])
        rows[name] = {
            "p50": float(p50),
            "p99": float(p99 if len(own) >= ENOUGH_FOR_P99 else own.max()),
            "max": float(own.max()),
            "calls": len(own),
            "ratio": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "joules": measure_joules(partial(_predict, session, inputs), seconds),
        }
    return {
        "rows": rows,
        "length": inputs.length,
        "threads": next(iter(sessions.values())).threads,
        "inputs": inputs.source,
    }


def _predict(session: Session, inputs: Inputs) -> None:
    session.predict(inputs.next())
