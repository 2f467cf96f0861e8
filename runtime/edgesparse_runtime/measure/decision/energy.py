"""Energy of a window: by the processor's own counter where it can be read, else from stated watts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Linux's interface to RAPL; by default only root may read its counters.
COUNTERS = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"intel-rapl:\d+")


def read_counters(root: Path = COUNTERS) -> dict[str, tuple[float, float]]:
    """By package: joules so far, and at how many the counter starts again; empty where none can be read."""
    found = {}
    for folder in sorted(root.glob("intel-rapl:*")):
        if not _PACKAGE.fullmatch(folder.name):
            continue
        try:
            values = [float((folder / name).read_text()) for name in ("energy_uj", "max_energy_range_uj")]
        except (OSError, ValueError):
            return {}
        found[folder.name] = (values[0] / 1e6, values[1] / 1e6)
    return found


def measure_joules(call: Callable[[], object], seconds: float, root: Path = COUNTERS) -> float | None:
    """Joules of a call, the machine's rest included; None where there is no counter.

    Args:
        seconds: how long it is called again and again.
    """
    before, calls = read_counters(root), 0
    if not before:
        return None
    end = time.perf_counter() + seconds
    while calls == 0 or time.perf_counter() < end:
        call()
        calls += 1
    after = read_counters(root)
    if set(after) != set(before):
        return None
    spent = sum((after[name][0] - before[name][0]) % before[name][1] for name in before)
    return spent / calls


def energy_facts(models: dict[str, dict[str, Any]], use: str, base: str | None, watts: float | None) -> Any:
    """Joules per 1,000 windows of the model to use and of the one it is compared with; None = not measured.

    Args:
        models: with `joules` and `p50`, each None where it was not measured.
        base: None = nothing is compared.
        watts: of the machine at work, as its reader states them.
    """
    is_measured = models[use]["joules"] is not None
    if not is_measured and watts is None:
        return None

    def of(name: str | None) -> float | None:
        if name is None:
            return None
        joules, p50 = models[name]["joules"], models[name]["p50"]
        if is_measured:
            return None if joules is None else 1000 * joules
        # Milliseconds and watts: millijoules a window, joules per 1,000.
        return None if p50 is None or watts is None else watts * p50

    found = {"source": "counter" if is_measured else "stated", "use": of(use), "base": of(base)}
    return found | {"watts": None if is_measured else watts}
