"""`StreamEvents`: the events of a stream's scores, per machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgesparse_runtime.operation.events.detect import Event, EventDetector
from edgesparse_runtime.operation.events.rule import EventRules
from edgesparse_runtime.stream.sample import Score

# As many machines as a stream scores.
_MOST_MACHINES = 1000


@dataclass
class _Machine:
    detector: EventDetector
    segment: int


class StreamEvents:
    """Scores of consecutive windows in, events out.

    Args:
        rules: of the bundle.
        classes: of the scores, in their order.

    Attributes:
        counts: events that began, by class.
    """

    def __init__(self, rules: EventRules, classes: tuple[str, ...]) -> None:
        self.counts = {rule.name: 0 for rule in rules.rules}
        self._rules = rules.rules
        self._columns = [classes.index(rule.name) for rule in rules.rules]
        self._machines: dict[str, _Machine] = {}

    def add(self, score: Score) -> list[Event]:
        """Take one score. Windows of dead sensors are passed over; a gap in the stream ends events."""
        machine = self._machines.get(score.machine)
        if machine is None:
            if len(self._machines) >= _MOST_MACHINES:
                return []
            detector = EventDetector(self._rules, self._columns)
            machine = self._machines[score.machine] = _Machine(detector, score.segment)
        found = machine.detector.restart() if machine.segment != score.segment else []
        machine.segment = score.segment
        if not score.faults:
            found += machine.detector.add(score.values)
        for event in found:
            self.counts[event.name] += event.kind == "begin"
        return found


def event_row(event: Event) -> dict[str, Any]:
    """As a line of the stream."""
    return {
        "kind": event.kind,
        "class": event.name,
        "score": round(event.score, 6),
        "windows": event.windows,
    }
