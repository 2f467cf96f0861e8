"""Which of two precisions was measured to be faster on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgesparse_runtime.dense_twin.lookup import find_entry

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.manifest_types import Manifest


def measured_choice(manifest: Manifest, threads: int, engine: str) -> tuple[str, str] | None:
    """The faster precision, as `edgesparse breakeven` measured both on a machine like this one, and why.

    Speed is the geometric mean over the lengths that both were measured at. None = not measured here.
    """
    times = [_times(find_entry(manifest, p, threads, engine) or {}) for p in ("float32", "int8")]
    both = sorted(set(times[0]) & set(times[1]))
    if not both:
        return None
    ratio = math.exp(sum(math.log(times[0][steps] / times[1][steps]) for steps in both) / len(both))
    reason = f"measured on this kind of machine: int8 is {ratio:.2f}x as fast as float32"
    return ("int8" if ratio >= 1.0 else "float32"), reason


def _times(entry: Mapping[str, Any]) -> dict[int, float]:
    """Milliseconds by length of what would run, the model as exported or its twin.

    A manifest can come from anybody, so nothing in it is taken for granted.
    """
    found: dict[int, float] = {}
    table = entry.get("table")
    for row in table if isinstance(table, list) else []:
        if not isinstance(row, dict) or row.get("density") is not None:
            continue
        wins = row.get("winner") == "dense" and row.get("agrees") is True
        steps, time = row.get("length"), row.get("dense_ms" if wins else "sparse_ms")
        if isinstance(steps, int) and isinstance(time, (int, float)) and 0 < time < math.inf:
            found[steps] = float(time)
    return found
