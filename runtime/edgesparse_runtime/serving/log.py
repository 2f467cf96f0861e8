"""Structured logs: one JSON object per line on stderr."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime

_lock = threading.Lock()


def log(event: str, **fields: object) -> None:
    """Write one event. Field values are JSON-quoted, so no value can forge a line."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = json.dumps({"time": now, "event": event, **fields}, default=str)
    with _lock:
        print(text, file=sys.stderr, flush=True)


class EventHandler(logging.Handler):
    """Turns what a library logs into events."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])
        log("library", logger=record.name, **fields)
