"""What the tests of streams share: an even grid that is known, its disturbances, and lines to scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import (
    Counts,
    Sample,
    SampleParser,
    Step,
    Stream,
    StreamOptions,
    Timeline,
    TimeRule,
)
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.live import run_live
from edgesparse_runtime.stream.sample import Score
from edgesparse_runtime.stream.sources import Line

OPTIONS = StreamOptions(window=16, stride=8)


@dataclass(frozen=True)
class Disturbed:
    """A recording and how it arrives.

    Attributes:
        values: float32 [channels, steps], the truth.
        is_there: bool [steps], false where the sample never arrives in time.
        order: int [n], the steps in the order in which they arrive; a lost step is not among them.
        times: float64 [steps], time stamps with jitter.
        late: how many of `order` come after the lateness is over; their steps are not `is_there`.
        period: seconds between steps.
    """

    values: npt.NDArray[np.float32]
    is_there: npt.NDArray[np.bool_]
    order: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    late: int
    period: float

    def samples(self) -> list[Sample]:
        return [Sample(self.values[:, k], float(self.times[k]), 0.0) for k in self.order]


def disturb(
    values: npt.NDArray[np.float32], *, period: float, lateness: float, max_gap: int, seed: int
) -> Disturbed:
    """Lose samples, alone and in short and long gaps; jitter; swap within the lateness; send some too late.

    The first and last samples arrive, and those that are late come well after what overtook them.
    """
    rng = np.random.default_rng(seed)
    steps = values.shape[1]
    is_there = rng.random(steps) > 0.02
    for start in rng.integers(100, steps - 100, steps // 5_000 + 1):
        is_there[start : start + rng.integers(2, max_gap + 1)] = False
    for start in rng.integers(100, steps - 100, steps // 20_000 + 1):
        is_there[start : start + rng.integers(max_gap + 1, 10 * max_gap + 2)] = False
    is_there[:64] = is_there[-64:] = True
    sent = np.flatnonzero(is_there)
    times = 1e6 + period * (np.arange(steps) + rng.uniform(-0.2, 0.2, steps))
    # Sent at its time, but for one in ten that takes up to nine tenths of the lateness longer.
    sent_at = times[sent] + np.where(
        rng.random(len(sent)) < 0.1, rng.uniform(0, 0.9 * lateness, len(sent)), 0
    )
    # One in a thousand takes so long that its step is over. Not just before a gap: there the grid waits.
    reach = round(lateness / period) + 8
    gaps = np.cumsum(~is_there)
    too_late = (rng.random(len(sent)) < 0.001) & (sent > 64) & (sent < steps - 64 - reach)
    too_late &= gaps[np.minimum(sent + reach, steps - 1)] == gaps[sent]
    sent_at[too_late] += lateness + 8 * period
    is_there[sent[too_late]] = False
    return Disturbed(
        values, is_there, sent[np.argsort(sent_at, kind="stable")], times, int(too_late.sum()), period
    )


def offline_segments(case: Disturbed, max_gap: int) -> list[npt.NDArray[np.float32]]:
    """The naive twin of `Timeline`: place by the true step, missing = NaN, cut where a gap is too long."""
    there = np.flatnonzero(case.is_there)
    cuts = np.flatnonzero(np.diff(there) - 1 > max_gap)
    segments = []
    for part in np.split(there, cuts + 1):
        segment = np.full((len(case.values), part[-1] - part[0] + 1), np.nan, dtype=np.float32)
        segment[:, part - part[0]] = case.values[:, part]
        segments.append(segment)
    return segments


def run_timeline(samples: list[Sample], channels: int, rule: TimeRule) -> tuple[list[Step], Counts, Timeline]:
    """All steps of some samples, what was counted, and the timeline at its end."""
    counts = Counts()
    timeline = Timeline(channels, rule, counts)
    steps = [step for sample in samples for step in timeline.push(sample)]
    return steps + list(timeline.finish()), counts, timeline


def to_segments(steps: list[Step]) -> list[npt.NDArray[np.float32]]:
    """Values of each run of steps between restarts."""
    segments: list[list[npt.NDArray[np.float32]]] = [[]]
    for step in steps:
        if step.restarts:
            segments.append([])
        segments[-1].append(step.values)
    return [np.stack(segment, axis=1) for segment in segments]


class Feed:
    """Lines that have all arrived."""

    def __init__(self, lines: list[str]) -> None:
        self.backlog: Backlog[Line] = Backlog(1 << 20)
        self.backlog.put([Line(line, 0.0) for line in lines])
        self.backlog.close()

    def stop(self) -> None:
        pass


def live(
    session: Session, lines: list[str], options: StreamOptions = OPTIONS, **parse: Any
) -> tuple[list[Score], Stream, list[str]]:
    """What `run --follow` makes of lines: scores, the stream at its end, and notes."""
    stream, notes, scores = Stream(session, options), list[str](), list[Score]()
    parser = SampleParser(session, stream.counts, **parse)
    feed: Any = Feed(lines)
    run_live(feed, stream, parser, lambda score, late: scores.append(score), note=notes.append)
    return scores, stream, notes
