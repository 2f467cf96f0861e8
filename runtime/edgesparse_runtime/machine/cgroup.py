"""What the container or service that this process runs in allows it: CPU quota and throttling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cgroup_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """CPU quota in cores, or None without one.

    A quota of any group above binds too, so the smallest counts. Version 2 (`cpu.max`) and version 1
    (`cpu.cfs_quota_us`) are both read.
    """
    quotas = [q for folder in _folders(root, membership) if (q := _quota(folder)) is not None]
    return min(quotas, default=None)


def throttling(root: Path = ROOT, membership: Path = MEMBERSHIP) -> dict[str, int] | None:
    """How often and for how many microseconds the own group was held back since it began; None if unknown."""
    for folder in _folders(root, membership):
        try:
            lines = (folder / "cpu.stat").read_text("utf-8", "replace").splitlines()
            found = {name: int(value) for name, value in (line.split() for line in lines)}
        except (OSError, ValueError):
            continue
        if "nr_throttled" in found:
            # Version 1 counts nanoseconds.
            spent = found.get("throttled_usec", found.get("throttled_time", 0) // 1000)
            return {"periods": found["nr_throttled"], "microseconds": spent}
    return None


def memory_limit(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that the strictest group still grants (version 2: `memory.max`, less what is in use), or None."""
    left = []
    for folder in _folders(root, membership):
        try:
            limit = (folder / "memory.max").read_text("utf-8", "replace").strip()
            if limit != "max":
                left.append(int(limit) - int((folder / "memory.current").read_text("utf-8", "replace")))
        except (OSError, ValueError):
            continue
    return min(left, default=None)


def _folders(root: Path, membership: Path) -> Iterator[Path]:
    """The groups' folders from the own one upwards; in a container the own one is often the root."""
    try:
        lines = membership.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if number == "0" and not controllers:
            top = root
        elif "cpu" in controllers.split(","):
            top = root / "cpu" if (root / "cpu").exists() else root / controllers
        else:
            continue
        below = path.strip("/")
        while below:
            yield top / below
            below = below.rpartition("/")[0]
        yield top
    yield root


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text("utf-8", "replace").split()
            return None if limit == "max" else int(limit) / int(period)
        limit = (folder / "cpu.cfs_quota_us").read_text("utf-8", "replace").strip()
        if int(limit) <= 0:
            return None
        return int(limit) / int((folder / "cpu.cfs_period_us").read_text("utf-8", "replace"))
    except (OSError, ValueError, ZeroDivisionError):
        return None
