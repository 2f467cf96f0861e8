"""`Commission`: the signals of a commissioning period, on disk while it lasts: kill -9 costs no window."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.monitor.reference import Learned, Reference, learn

SCHEMA = "edgesparse.monitor-learning/1"
# Machine, time and hour come before the signals.
_BEFORE = 3
_LONGEST_HEAD = 1 << 20


class Commission:
    """Windows so far, appended to a file, one record each; a record that was cut by a kill is left out.

    Args:
        path: of the file; what an earlier process has written for the same signals is resumed.
        names: of the signals.

    Attributes:
        windows: recorded so far.

    Raises:
        InputError: the file is of another model, or something else.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self._names = path, tuple(names)
        self._width = 8 * (_BEFORE + len(self._names))
        head = (json.dumps({"schema": SCHEMA, "signals": list(names)}) + "\n").encode()
        self._stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        size = self._stream.seek(0, os.SEEK_END)
        self._stream.seek(0)
        found = self._stream.readline(_LONGEST_HEAD)
        if found and found != head[: len(found)]:
            raise InputError(f"{path} must be of this model's commissioning period. Remove it to start anew.")
        self._first = len(head)
        self.windows = max(0, size - self._first) // self._width
        if found != head:
            self._stream.seek(0)
            self._stream.write(head)
        self._stream.truncate(self._first + self.windows * self._width)
        self._stream.seek(0, os.SEEK_END)
        self._stream.flush()

    def add(self, values_S: Sequence[float], *, machine: str, time: float, hour: int) -> None:
        """Record one window without a fault."""
        row = np.array([zlib.crc32(machine.encode("utf-8", "replace")), time, hour, *values_S])
        self._stream.write(row.tobytes())
        self._stream.flush()
        self.windows += 1

    def seconds(self) -> float:
        """Time from the first to the last window."""
        if self.windows < 2:
            return 0.0
        ends = []
        for place in (0, self.windows - 1):
            self._stream.seek(self._first + place * self._width)
            ends.append(np.frombuffer(self._stream.read(self._width))[1])
        self._stream.seek(0, os.SEEK_END)
        return float(ends[1] - ends[0])

    def learn(
        self, *, overlap: int, seconds_per_window: float | None, source: str, context: str
    ) -> Reference:
        """The reference of all windows so far.

        Raises:
            InputError: there is none.
        """
        self._stream.seek(self._first)
        content = self._stream.read(self.windows * self._width)
        rows = np.frombuffer(content).reshape(-1, self._width // 8)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        machines = np.char.mod("%d", rows[:, 0].astype(np.int64))
        hours = [f"{int(hour):02d}" for hour in rows[:, 2]] if context else None
        return learn(
            self._names,
            rows[:, _BEFORE:],
            Learned(len(rows), overlap, seconds_per_window, source),
            context=context,
            contexts=hours,
            groups=machines,
        )

    def close(self, *, is_done: bool) -> None:
        """Close the file; remove it where its reference is stored."""
        self._stream.close()
        if is_done:
            self.path.unlink(missing_ok=True)
