"""What a call costs, in bytes: no test asserts a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IO = Path("/proc/self/io")


class Cost:
    """Bytes read from files, and the most that Python and numpy held, while the context was open."""

    read = 0
    held = 0


def _bytes_read() -> int:
    rows = dict(row.split(": ") for row in _IO.read_text().splitlines())
    return int(rows["rchar"])


@contextmanager
def costs() -> Iterator[Cost]:
    """`with costs() as cost: ...`; afterwards `cost.read` and `cost.held` are set."""
    cost = Cost()
    before = _bytes_read()
    tracemalloc.start()
    try:
        yield cost
    finally:
        cost.held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        cost.read = _bytes_read() - before
