"""What happens beside the scores of a stream: events, the monitor, and a store's trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from edgesparse_runtime.cli.output import note
from edgesparse_runtime.cli.preflight import check_output
from edgesparse_runtime.cli.running.monitored import StreamMonitor
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.operation.events.publish import Publisher
from edgesparse_runtime.operation.events.rule import rules_of
from edgesparse_runtime.operation.events.stream import StreamEvents, event_row
from edgesparse_runtime.operation.rollout.followed import FollowedSession
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.model import find_reference
from edgesparse_runtime.stream.monitor.monitor import Monitor
from edgesparse_runtime.stream.monitor.rate import DEFAULT, Rate
from edgesparse_runtime.stream.sample import Score
from edgesparse_runtime.stream.write import ScoreWriter


class _Options(Protocol):
    """What is needed of the stream's options."""

    @property
    def monitor(self) -> Path | None: ...
    @property
    def reference(self) -> Path | None: ...
    @property
    def false_alarms(self) -> str: ...
    @property
    def publish(self) -> str | None: ...


class Operation:
    """Takes each score after it was written.

    Attributes:
        watch: the monitor; None = none, or the bundle that answers now has no reference.
        alarms: given so far.

    Raises:
        InputError: options of a monitor without one; no reference; a rate or state that does not fit.
    """

    def __init__(self, session: Session, options: _Options) -> None:
        self._session, self._options = session, options
        self.watch = _open_monitor(session, options)
        self.alarms = 0
        self._events = _open_events(session)
        self._publisher = None if options.publish is None else Publisher(options.publish)

    def after(self, writer: ScoreWriter, score: Score, is_late: bool) -> None:
        """Write the events and alarms that a score completes; run the shadow, follow the pointer."""
        found = [] if self._events is None else self._events.add(score)
        lines = [writer.write_of("event", event_row(event), score) for event in found]
        alarm = None if self.watch is None else self.watch.add(score)
        if alarm is not None:
            self.alarms += 1
            note(str(alarm))
            lines.append(writer.write_alarm(alarm, score))
        if self._publisher is not None:
            self._publisher.send(lines)
        if isinstance(self._session, FollowedSession):
            before = self._session.sha256
            if alarm is not None:
                self._session.take_back(f"alarm: {alarm}")
            self._session.after(is_late)
            if self._session.sha256 != before:
                self._reopen()

    def end(self) -> dict[str, Any]:
        """Save and close everything; what the stream's summary has of it."""
        found: dict[str, Any] = {}
        if self.watch is not None:
            self.watch.monitor.save()
            found["monitor"] = {**self.watch.summary(), "alarms": self.alarms}
        if self._events is not None:
            found["events"] = self._events.counts
        if self._publisher is not None:
            self._publisher.close()
            found["unpublished"] = self._publisher.dropped
        if isinstance(self._session, FollowedSession):
            found["bundle"] = self._session.sha256
            self._session.end()
        return found

    def _reopen(self) -> None:
        """Another bundle answers: its own events, and its own reference."""
        note(f"{self._session.path.parent.stem[:16]} answers from now on")
        self._events = _open_events(self._session)
        if self._options.monitor is not None:
            if self.watch is not None:
                self.watch.monitor.save()
            try:
                self.watch = _open_monitor(self._session, self._options)
            except InputError as error:
                self.watch = None
                note(f"nothing is monitored: {error}")


def _open_events(session: Session) -> StreamEvents | None:
    """The events of the bundle's rules; None where it has none."""
    rules = None if session.bundle is None else rules_of(session.bundle)
    return None if rules is None else StreamEvents(rules, session.classes)


def _open_monitor(session: Session, options: _Options) -> StreamMonitor | None:
    """The monitor that the options describe.

    Raises:
        InputError: as `Operation`.
    """
    if options.monitor is None:
        if options.reference is not None or options.false_alarms != DEFAULT:
            raise InputError("`--reference` and `--false-alarms` are for a monitor. Add --monitor STATE.")
        return None
    rate = Rate.parse(options.false_alarms)
    check_output(options.monitor, "--monitor")
    monitor = Monitor(find_reference(session, options.reference), rate, state=options.monitor)
    if monitor.problem:
        note(monitor.problem)
    return StreamMonitor(monitor)
