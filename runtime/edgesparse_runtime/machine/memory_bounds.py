"""What a measurement is asked for: numbers within reason, and inputs that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.cgroup import memory_limit

_INFO = Path("/proc/meminfo")


def check_counts(counts: Mapping[str, int | Iterable[int] | None]) -> None:
    """Refuse what is below 1.

    Args:
        counts: by option; None = not given.

    Raises:
        InputError: names the option and its value.
    """
    for option, given in counts.items():
        for value in [given] if isinstance(given, int) else given or ():
            if value < 1:
                raise InputError(f"`{option}` must be at least 1; got {value}.")


def check_spans(spans: Mapping[str, float | Iterable[float] | None]) -> None:
    """Refuse what is not above 0, or has no end.

    Raises:
        InputError: names the option and its value.
    """
    for option, given in spans.items():
        for value in [given] if isinstance(given, (int, float)) else given or ():
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"`{option}` must be above 0 and finite; got {value:g}.")


def check_memory(*, batch: int, channels: int, length: int, kept: int, scores: int) -> None:
    """Refuse inputs that this machine has no memory for, before they are made.

    Counted are the windows that calls are made from, one call's windows twice (before and after they are
    shifted) and the router's scores: the least that is needed, so what is refused would have failed.

    Args:
        kept: windows that calls are made from.
        scores: router scores of one window; of many windows, no more than 16 may be in work at once.

    Raises:
        InputError: more than is free.
    """
    free = free_memory()
    needed = 4 * channels * length * (kept + 2 * batch) + 4 * scores * min(batch, 16)
    if free is not None and needed > free:
        raise InputError(
            f"`--batch` {batch} of `--length` {length} steps must fit into memory; that takes at least "
            f"{needed / 2**30:.1f} GB, and {free / 2**30:.1f} GB are free. Use smaller ones."
        )


def free_memory(info: Path = _INFO) -> int | None:
    """Bytes that a process may still take, by the machine and by its container; None if unknown."""
    try:
        lines = info.read_text("utf-8", "replace").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
    limit = memory_limit()
    return free if limit is None else min(free, limit)
