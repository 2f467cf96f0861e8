"""Resident memory of this process, in MB (2**20 bytes)."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_memory() -> float:
    """The most that was ever resident."""
    # Linux hands a parent's peak on to its children in getrusage, but not here.
    found = _status("VmHWM:")
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def resident_memory() -> float | None:
    """What is resident now; None where the system does not tell."""
    return _status("VmRSS:")


def _status(name: str) -> float | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text("utf-8", "replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / (1 << 10)
    return None
