"""`StreamMonitor`: the monitor of a stream's scores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.monitor.alarm import Alarm
from edgesparse_runtime.stream.monitor.monitor import Monitor
from edgesparse_runtime.stream.sample import Score


class StreamMonitor:
    """Hands each score's signals to a monitor.

    Attributes:
        alarms: those of this process.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.alarms = 0

    def add(self, score: Score) -> Alarm | None:
        """Take one score; an alarm where it completes the evidence."""
        assert score.signals is not None
        alarm = self.monitor.add(
            score.signals,
            machine=score.machine,
            context=self._context_of(score),
            time=score.time,
            faults=score.faults,
        )
        self.alarms += alarm is not None
        return alarm

    def _context_of(self, score: Score) -> str:
        kind = self.monitor.reference.context
        # Of groups, a machine's name is its own.
        return f"{hour_of(score):02d}" if kind == "hour" else score.machine if kind else ""

    def summary(self) -> dict[str, Any]:
        """What it has seen, for the stream's last line."""
        return {**self.monitor.to_dict(), "alarms": self.alarms}


def hour_of(score: Score) -> int:
    """The hour of the day of a score, in UTC.

    Raises:
        InputError: the stream has no calendar times.
    """
    if not score.is_calendar:
        raise InputError("The reference tells hours apart, which needs a stream with calendar times.")
    return datetime.fromtimestamp(score.time, UTC).hour
