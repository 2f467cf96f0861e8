"""Scores and labels of recordings, as `events fit` counts events on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import BoolArray, FloatArray
from edgesparse_runtime.operation.events.detect import EventDetector
from edgesparse_runtime.operation.events.rule import EventRule

DAY = 86_400.0


@dataclass(frozen=True)
class Track:
    """Consecutive windows of one recording.

    Attributes:
        scores: [n, classes].
        labels: class of each window.
        group: windows of one group are never on both sides of a split.
    """

    scores: FloatArray
    labels: npt.NDArray[np.str_]
    group: str

    def episodes(self, name: str) -> list[tuple[int, int]]:
        """First window of each run of a class, and the one after its last."""
        edges = np.diff(np.concatenate([[0], (self.labels == name).astype(np.int8), [0]]))
        begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        return list(zip(begins.tolist(), ends.tolist(), strict=True))


@dataclass
class Tally:
    """Events of one class on recordings.

    Attributes:
        false_alarms: events that began in a window of another class, and not in the last windows that a rule
            looks at after an episode.
        windows: in which they could.
        delays: windows from the first of an episode to the one in which its event began, both included; an
            event that was on already counts 1.
        episodes: how many there were.
        begun: events that began inside an episode.
    """

    false_alarms: int = 0
    windows: int = 0
    delays: list[int] = field(default_factory=list)
    episodes: int = 0
    begun: int = 0

    def add(self, other: Tally) -> None:
        self.false_alarms += other.false_alarms
        self.windows += other.windows
        self.delays += other.delays
        self.episodes += other.episodes
        self.begun += other.begun

    @property
    def found(self) -> float:
        """Share of episodes in which the event was on at some time."""
        return len(self.delays) / self.episodes if self.episodes else 0.0


def count_events(rule: EventRule, column: int, tracks: Sequence[Track]) -> Tally:
    """What a rule does on recordings, each by itself."""
    total = Tally()
    for track in tracks:
        total.add(_count_track(rule, column, track))
    return total


def _count_track(rule: EventRule, column: int, track: Track) -> Tally:
    own = track.labels == rule.name
    apart = is_apart(own, rule.windows)
    found = Tally(windows=int(apart.sum()))
    is_on = _trace(rule, column, track.scores[:, column])
    begins = np.flatnonzero(np.diff(np.concatenate([[False], is_on]).astype(np.int8)) == 1)
    found.begun = int(own[begins].sum())
    found.false_alarms = int(apart[begins].sum())
    for first, end in track.episodes(rule.name):
        found.episodes += 1
        on = np.flatnonzero(is_on[first:end])
        if len(on):
            found.delays.append(int(on[0]) + 1)
    return found


def is_apart(own_N: BoolArray, windows: int) -> BoolArray:
    """Windows of other classes of which none of the `windows` - 1 before is of this class either."""
    recent = np.convolve(own_N, np.ones(windows))[: len(own_N)]
    return np.asarray(recent < 0.5)


def _trace(rule: EventRule, column: int, scores_N: FloatArray) -> npt.NDArray[np.bool_]:
    """In which windows the event is on, by the detector that a stream uses."""
    is_on = np.zeros(len(scores_N), dtype=np.bool_)
    if not (scores_N >= rule.enter).any():
        return is_on
    detector, on = EventDetector([rule], [0]), False
    for i, score in enumerate(scores_N.tolist()):
        for event in detector.add([score]):
            on = event.kind == "begin"
        is_on[i] = on
    return is_on
