"""Structured logs: one JSON object per line on stderr."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

# Records that one statement of a library may log per minute.
PER_MINUTE = 6
_LONGEST = 2000
_lock = threading.Lock()


def log(event: str, **fields: object) -> None:
    """Write one event. Field values are JSON-quoted, so no value can forge a line."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = json.dumps({"time": now, "event": event, **fields}, default=str)
    with _lock:
        print(text, file=sys.stderr, flush=True)


class EventHandler(logging.Handler):
    """Turns log records of a library into events; of records made by one statement, a few per minute.

    What a client can cause as often as it likes must not fill the disk.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # By statement: when its minute began, how many were logged in it, and how many were not.
        self._minutes: dict[str, tuple[float, int, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        place = f"{record.pathname}:{record.lineno}"
        now = self._clock()
        began, logged, left_out = self._minutes.get(place, (now, 0, 0))
        if now - began >= 60:
            began, logged = now, 0
        if logged >= PER_MINUTE:
            self._minutes[place] = (began, logged, left_out + 1)
            return
        self._minutes[place] = (began, logged + 1, 0)
        fields: dict[str, object] = {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])[:_LONGEST]
        if left_out:
            fields["left_out"] = left_out
        log("library", logger=record.name, **fields)
