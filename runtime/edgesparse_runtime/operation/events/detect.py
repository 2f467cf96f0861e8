"""`EventDetector`: scores of one machine in, beginnings and ends of events out, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.operation.events.rule import EventRule


class Event(NamedTuple):
    """An event of a class begins or ends with a window.

    Attributes:
        kind: "begin" or "end".
        name: of the class.
        score: of the class in this window.
        windows: since the event began, this one included.
    """

    kind: str
    name: str
    score: float
    windows: int


@dataclass
class _State:
    """Of one class: which of the last windows reached its scores, and where its event stands."""

    entered: deque[bool]
    stayed: deque[bool]
    windows: int = 0
    is_on: bool = False
    waits: int = 0


class EventDetector:
    """Applies rules to consecutive windows.

    Args:
        rules: one per class.
        columns: of the classes in the scores, in the order of the rules.
    """

    def __init__(self, rules: Sequence[EventRule], columns: Sequence[int]) -> None:
        self._rules = list(zip(rules, columns, strict=True))
        self._states: list[_State] = []
        self._begin()

    def restart(self) -> list[Event]:
        """The next window does not follow on the last one: events that are on end here."""
        ended = [
            Event("end", rule.name, 0.0, state.windows)
            for (rule, _), state in zip(self._rules, self._states, strict=True)
            if state.is_on
        ]
        self._begin()
        return ended

    def add(self, scores_K: FloatArray | Sequence[float]) -> list[Event]:
        """Take one window's scores."""
        found = []
        for (rule, column), state in zip(self._rules, self._states, strict=True):
            event = _advance(rule, state, float(scores_K[column]))
            if event is not None:
                found.append(event)
        return found

    def _begin(self) -> None:
        self._states = [
            _State(deque(maxlen=rule.windows), deque(maxlen=rule.windows)) for rule, _ in self._rules
        ]


def _advance(rule: EventRule, state: _State, score: float) -> Event | None:
    state.entered.append(score >= rule.enter)
    state.stayed.append(score >= rule.leave)
    if state.is_on:
        state.windows += 1
        if any(state.stayed):
            return None
        event = Event("end", rule.name, score, state.windows)
        state.is_on, state.windows, state.waits = False, 0, rule.refractory
        return event
    if state.waits > 0:
        state.waits -= 1
        return None
    if sum(state.entered) < rule.needed:
        return None
    state.is_on, state.windows = True, 1
    return Event("begin", rule.name, score, 1)
