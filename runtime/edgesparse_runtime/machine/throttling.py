"""What disturbed a measurement: throttling by quota or heat, and time that the host gave to others."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesparse_runtime.machine.cgroup import throttling

_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Counters:
    """Counters of the system at one moment; None where it has none."""

    quota_periods: int | None
    heat_events: int | None
    steal_ticks: int | None
    busy_ticks: int | None
    all_ticks: int | None


@dataclass(frozen=True)
class Conditions:
    """What happened between two moments; None where the system does not tell.

    Attributes:
        quota_throttled: periods in which the control group's quota held the process back.
        heat_throttled: times that a core was slowed down because of heat.
        stolen: share of the machine's time that its host gave to other machines.
        busy: share of the machine's time that anything ran, this measurement included.
        load: load average of the last minute at the end.
        megahertz: fastest core's clock at the end.
    """

    quota_throttled: int | None
    heat_throttled: int | None
    stolen: float | None
    busy: float | None
    load: float | None
    megahertz: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_counters() -> Counters:
    """The counters now."""
    held = throttling()
    heat = [_number(path) for path in _CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    ticks = _ticks()
    return Counters(
        quota_periods=None if held is None else held["periods"],
        heat_events=sum(h for h in heat if h is not None) if heat else None,
        steal_ticks=None if ticks is None else ticks[7],
        busy_ticks=None if ticks is None else sum(ticks) - ticks[3] - ticks[4],
        all_ticks=None if ticks is None else sum(ticks),
    )


def since(before: Counters) -> Conditions:
    """What happened since."""
    now = read_counters()
    passed = _less(now.all_ticks, before.all_ticks)
    try:
        load: float | None = os.getloadavg()[0]
    except OSError:
        load = None
    return Conditions(
        quota_throttled=_less(now.quota_periods, before.quota_periods),
        heat_throttled=_less(now.heat_events, before.heat_events),
        stolen=_share(_less(now.steal_ticks, before.steal_ticks), passed),
        busy=_share(_less(now.busy_ticks, before.busy_ticks), passed),
        load=load,
        megahertz=_clock(),
    )


def _ticks() -> list[int] | None:
    """user, nice, system, idle, iowait, irq, softirq, steal of all cores together."""
    try:
        first = Path("/proc/stat").read_text("utf-8", "replace").splitlines()[0].split()
        return [int(value) for value in first[1:9]] if len(first) >= 9 else None
    except (OSError, ValueError, IndexError):
        return None


def _clock() -> float | None:
    clocks = [_number(path) for path in _CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [clock / 1000 for clock in clocks if clock]
    if not known and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        known = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return max(known, default=None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("utf-8", "replace"))
    except (OSError, ValueError):
        return None


def _less(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


def _share(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else part / whole
