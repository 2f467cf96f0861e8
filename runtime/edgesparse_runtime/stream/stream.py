"""`Stream`: samples in, scores out, of one machine or many, wherever they come from and go to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.causal import CausalScorer
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.parse import Record, SampleParser
from edgesparse_runtime.stream.sample import Sample, Score, Step
from edgesparse_runtime.stream.timeline import Timeline, TimeRule
from edgesparse_runtime.stream.token_stream import StepModel, has_step_model
from edgesparse_runtime.stream.windows import WindowScorer

# Each machine has buffers of its own: names that change with every sample must not fill the memory.
MOST_MACHINES = 1000


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is cut and judged.

    Attributes:
        window: steps a window; None = the longest series that the model was trained on.
        stride: steps between windows; None = a quarter of the window, or a token of a causal model.
        period: seconds between steps; None = read from the first samples.
        lateness: seconds that a sample may come after one with a later time stamp.
        max_gap: missing steps in a row that are filled; None = a tenth of the window.
        deadline: seconds from a sample's arrival to the score of the window that it completed.
        whole_windows: run whole windows of a causal model too, rather than carry it on sample by sample.
    """

    window: int | None = None
    stride: int | None = None
    period: float | None = None
    lateness: float = 0.0
    max_gap: int | None = None
    deadline: float | None = None
    whole_windows: bool = False

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be at least 1 step; got {value}.")
        if self.deadline is not None and not self.deadline > 0:
            raise InputError(f"`deadline` must be above 0; got {self.deadline:g}.")
        self.time_rule()

    def time_rule(self) -> TimeRule:
        """The part of the options that is about time.

        Raises:
            InputError: a period, lateness or gap that is none.
        """
        return TimeRule(period=self.period, lateness=self.lateness, max_gap=self.max_gap or 0)

    def resolve(self, session: Session) -> StreamOptions:
        """With what was left open chosen for a model.

        Raises:
            InputError: the model names no length of its own and `window` is not given, or does not fit it.
        """
        window = self.window
        facts = {} if session.bundle is None else session.bundle.manifest["input"]
        if window is None:
            window = int(facts.get("longest", 0))
            if window < 1:
                raise InputError(f"`window` must be given; {session.path} does not say how long a window is.")
        least = int(facts.get("min_steps", 1))
        if window < least:
            raise InputError(f"`window` must be at least {least} steps for this model; got {window}.")
        max_gap = window // 10 if self.max_gap is None else self.max_gap
        if max_gap >= window:
            raise InputError(
                f"`max_gap` must be below the window's {window} steps, or a window could be all missing; "
                f"got {max_gap}."
            )
        stride = self.stride or (
            int(facts["steps_per_token"]) if self.is_incremental(session) else max(1, window // 4)
        )
        return replace(self, window=window, stride=stride, max_gap=max_gap)

    def is_incremental(self, session: Session) -> bool:
        """Is a model carried on sample by sample?"""
        return has_step_model(session.bundle) and not self.whole_windows


class Scorer(Protocol):
    """Steps in, scores out: whole windows, or a causal model token by token."""

    def push(self, step: Step) -> Score | None: ...


class Stream:
    """Samples of any number of machines in, scores out, as soon as they are known.

    Args:
        model: an opened `Session`, or what it opens.
        options: how windows are cut.

    Attributes:
        counts: what happened so far.
        options: with the model's own lengths filled in.
    """

    def __init__(self, model: Session | Bundle | str | Path, options: StreamOptions | None = None) -> None:
        self.session = model if isinstance(model, Session) else Session(model)
        if not isinstance(self.session.channel_count, int):
            raise InputError(f"{self.session.path} must have a fixed number of channels to run on a stream.")
        self.options = (options or StreamOptions()).resolve(self.session)
        self.counts = Counts()
        self._step_model: StepModel | None = None
        if self.options.is_incremental(self.session):
            assert self.session.bundle is not None
            self._step_model = StepModel.open(
                self.session.bundle, threads=self.session.threads, knobs=self.session.knobs
            )
        self._tracks: dict[str, tuple[Timeline, Scorer]] = {}

    def push(self, sample: Sample) -> Iterator[Score]:
        """The scores that `sample` makes known: none, one, or several where it ends a gap.

        A sample of one machine more than a thousand is counted and not used.
        """
        self.counts.samples += 1
        track = self._track(sample.machine)
        if track is None:
            self.counts.too_many_machines += 1
            return
        timeline, scorer = track
        yield from self._score(sample.machine, timeline.push(sample), scorer)

    def finish(self) -> Iterator[Score]:
        """The scores of samples still held back; the source has ended."""
        for machine, (timeline, scorer) in self._tracks.items():
            yield from self._score(machine, timeline.finish(), scorer)

    def is_late(self, score: Score) -> bool:
        """Counts the time from arrival to now as the score's latency; true when it is over the deadline.

        To be called once a score, when it has been handed on.
        """
        latency = time.perf_counter() - score.arrived
        self.counts.latencies.add(latency)
        late = self.options.deadline is not None and latency > self.options.deadline
        self.counts.deadline_missed += late
        return late

    @property
    def is_incremental(self) -> bool:
        """A causal model is carried on sample by sample; no window is run whole."""
        return self._step_model is not None

    @property
    def periods(self) -> dict[str, float | None]:
        """Seconds between steps by machine; None without time stamps, or before it is known."""
        return {machine: timeline.period for machine, (timeline, _) in self._tracks.items()}

    def _score(self, machine: str, steps: Iterator[Step], scorer: Scorer) -> Iterator[Score]:
        for step in steps:
            self.counts.steps += 1
            score = scorer.push(step)
            if score is not None:
                self.counts.scores += 1
                yield replace(score, machine=machine)

    def _track(self, machine: str) -> tuple[Timeline, Scorer] | None:
        track = self._tracks.get(machine)
        if track is None:
            if len(self._tracks) >= MOST_MACHINES:
                return None
            track = self._tracks[machine] = (self._make_timeline(), self._make_scorer())
        return track

    def _make_timeline(self) -> Timeline:
        assert isinstance(self.session.channel_count, int)
        return Timeline(self.session.channel_count, self.options.time_rule(), self.counts)

    def _make_scorer(self) -> Scorer:
        assert self.options.window is not None and self.options.stride is not None
        if self._step_model is not None:
            return CausalScorer(self._step_model, self.options.window, self.options.stride)
        return WindowScorer(self.session, self.options.window, self.options.stride)


def stream_scores(
    model: Session | Bundle | str | Path, records: Iterable[Record], options: StreamOptions | None = None
) -> Iterator[Score]:
    """Scores of any iterable of samples, as they become known.

    Args:
        model: an opened `Session`, or what it opens.
        records: readings: values [channels], (time, values), or a mapping of channel names, `time` and
            `machine`. Times are seconds, ISO 8601 text or `datetime`.
        options: how windows are cut.

    Raises:
        InputError: a record that is none of these.
    """
    stream = Stream(model, options)
    parser = SampleParser(stream.session, stream.counts)
    for record in records:
        yield from stream.push(parser.to_sample(record))
    yield from stream.finish()
