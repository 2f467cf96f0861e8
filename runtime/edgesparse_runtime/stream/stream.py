"""`Stream`: samples in, scores out, of one machine or many, wherever they come from and go to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.for_model import grid_of
from edgesparse_runtime.data.grid import MAX_GAP
from edgesparse_runtime.data.sensors.input_check import input_check_of
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.causal import CausalScorer
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.monitor.signals import Signals
from edgesparse_runtime.stream.parse import Record, SampleParser
from edgesparse_runtime.stream.places import Places
from edgesparse_runtime.stream.sample import Sample, Score, Step
from edgesparse_runtime.stream.step.token_stream import StepModel, has_step_model
from edgesparse_runtime.stream.timeline import Timeline, TimeRule, WrongPeriod
from edgesparse_runtime.stream.windows import WindowScorer

# Each machine has its own buffers: names that change with every sample must not fill the memory.
MOST_MACHINES = 1000
# How far the period of a stream may be from the one that the model was trained on.
PERIOD_TOLERANCE = 0.1

_Key = tuple[bool, str]


@dataclass
class _Track:
    """One machine: its time line, and what scores its steps."""

    timeline: Timeline
    scorer: Scorer
    topic: str
    is_calendar: bool
    is_local: bool
    unit: float
    has_fault: bool = False


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is cut into windows.

    Attributes:
        window: steps per window; None = the longest series that the model was trained on.
        stride: steps between windows; None = a quarter of the window, or one token of a causal model.
        period: seconds between steps; None = read from the first samples.
        lateness: seconds that a sample may come after one with a later time stamp.
        max_gap: missing steps in a row that are filled; None = a tenth of the window.
        deadline: seconds from a sample's arrival to the score of the window that it completed.
        whole_windows: run whole windows of a causal model, rather than advance it sample by sample.
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
        """The options with defaults filled in for a model.

        Raises:
            InputError: the model names no length of its own and `window` is not given, or does not fit it.
        """
        window = self.window
        grid = grid_of({} if session.bundle is None else session.bundle.manifest)
        facts = {} if session.bundle is None else session.bundle.manifest["input"]
        if window is None:
            window = grid.window or int(facts.get("longest", 0))
            if window < 1:
                raise InputError(f"`window` must be given; {session.path} states no length of a window.")
        least = int(facts.get("min_steps", 1))
        if window < least:
            raise InputError(f"`window` must be at least {least} steps for this model; got {window}.")
        max_gap = int(MAX_GAP * window) if self.max_gap is None else self.max_gap
        if max_gap >= window:
            raise InputError(
                f"`max_gap` must be below the window's {window} steps, or a window could be all missing; "
                f"got {max_gap}."
            )
        stride = self.stride or (
            int(facts["steps_per_token"])
            if self.is_incremental(session)
            else (grid.stride if grid.stride and window == grid.window else max(1, window // 4))
        )
        return replace(self, window=window, stride=stride, max_gap=max_gap)

    def is_incremental(self, session: Session) -> bool:
        """Is a model advanced sample by sample?"""
        return has_step_model(session.bundle) and not self.whole_windows


class Scorer(Protocol):
    """Steps in, scores out: whole windows, or a causal model token by token."""

    def push(self, step: Step) -> Score | None: ...


class Stream:
    """Samples of any number of machines in, scores out, as soon as they are known.

    No machine can end or silence another: each has its own windows, clock and kind of time; one whose samples
    cannot be scored starts anew. When all places are taken, a topic without any gets one from the topic that
    has most.

    Args:
        model: an opened `Session`, or what it opens.
        options: how windows are cut.
        warn: told what somebody should know, once per machine.
        signals: computes each window's signals for a monitor; None = none.

    Attributes:
        counts: what happened so far.
        options: with the model's own lengths filled in.
    """

    def __init__(
        self,
        model: Session | Bundle | str | Path,
        options: StreamOptions | None = None,
        warn: Callable[[str], None] = lambda text: None,
        signals: Signals | None = None,
    ) -> None:
        self.session = model if isinstance(model, Session) else Session(model)
        if not isinstance(self.session.channel_count, int):
            raise InputError(f"{self.session.path} must have a fixed number of channels to run on a stream.")
        self.options = (options or StreamOptions()).resolve(self.session)
        self.counts = Counts()
        self.warn = warn
        self._step_model: StepModel | None = None
        if self.options.is_incremental(self.session):
            assert self.session.bundle is not None
            self._step_model = StepModel.open(
                self.session.bundle, threads=self.session.threads, knobs=self.session.knobs
            )
        self._check = input_check_of(self.session)
        self._signals = signals
        self._tracks: dict[_Key, _Track] = {}
        self._machines_of: Counter[str] = Counter()
        self._places: Places[_Key] = Places(MOST_MACHINES)
        # Machines whose period the model does not fit; bounded as the tracks are.
        self._refused: set[_Key] = set()

    def push(self, sample: Sample) -> Iterator[Score]:
        """The scores that `sample` makes known: none, one, or several where it ends a gap.

        A sample of one machine more than a thousand is counted and not used. Nor is one whose machine has
        another kind of time, or another period than the model was trained on.

        Raises:
            InputError: the period does not fit, where the stream has one machine without a name.
        """
        self.counts.samples += 1
        key = (sample.is_topics, sample.machine)
        if key in self._refused:
            self.counts.wrong_period += 1
            return
        track = self._track(key, sample)
        if track is None:
            self.counts.too_many_machines += 1
            return
        if sample.time is not None and _clock_of(track) != _clock_of(sample):
            # Two sources of one name that measure time differently.
            self.counts.malformed += 1
            return
        try:
            yield from self._score(sample.machine, track, track.timeline.push(sample))
        except WrongPeriod as error:
            self._forget(key)
            if not sample.machine:
                raise InputError(str(error)) from None
            if len(self._refused) < MOST_MACHINES:
                self._refused.add(key)
            self.warn(f"{sample.machine}: {error} Its samples are not scored.")

    def fail(self, sample: Sample) -> None:
        """Its scoring failed: the machine starts anew with its next sample."""
        self.counts.failed += 1
        self.counts.of(sample.topic or sample.machine).failed += 1
        self._forget((sample.is_topics, sample.machine))

    def finish(self) -> Iterator[Score]:
        """The scores of samples still held back; the source has ended.

        Raises:
            InputError: as `push`.
        """
        for (_, machine), track in list(self._tracks.items()):
            try:
                yield from self._score(machine, track, track.timeline.finish())
            except WrongPeriod as error:
                if not machine:
                    raise InputError(str(error)) from None
                self.warn(f"{machine}: {error} Its samples are not scored.")
            except Exception as error:
                if not machine:
                    raise
                self.counts.failed += 1
                self.counts.of(track.topic or machine).failed += 1
                self.warn(f"{machine}: its last samples could not be scored: {error}")

    def is_late(self, score: Score) -> bool:
        """Record the time from arrival to now as the score's latency; true when it exceeds the deadline.

        Call it once per score, after handing it on.
        """
        latency = time.perf_counter() - score.arrived
        self.counts.latencies.add(latency)
        late = self.options.deadline is not None and latency > self.options.deadline
        self.counts.deadline_missed += late
        return late

    @property
    def is_incremental(self) -> bool:
        """A causal model is advanced sample by sample; no window is run whole."""
        return self._step_model is not None

    @property
    def periods(self) -> dict[str, float | None]:
        """Seconds between steps by machine; None without time stamps, or before it is known."""
        return {machine: track.timeline.period for (_, machine), track in self._tracks.items()}

    def _score(self, machine: str, track: _Track, steps: Iterator[Step]) -> Iterator[Score]:
        for step in steps:
            self.counts.steps += 1
            score = track.scorer.push(step)
            if score is not None:
                self.counts.scores += 1
                self._note_faults(machine, track, score)
                self.counts.unknown += score.unknown is not None and score.unknown > 1
                yield replace(
                    score,
                    machine=machine,
                    is_calendar=track.is_calendar,
                    is_local=track.is_local,
                    unit=track.unit,
                )

    def _note_faults(self, machine: str, track: _Track, score: Score) -> None:
        """Count a window of a dead sensor; the first one of a machine is noted at once."""
        if not score.faults:
            return
        self.counts.faulty += 1
        if not track.has_fault:
            track.has_fault = True
            prefix = f"{machine}: " if machine else ""
            self.warn(f"{prefix}{', '.join(score.faults)}: its scores mean little; see `faults`")

    def _track(self, key: _Key, sample: Sample) -> _Track | None:
        track = self._tracks.get(key)
        if track is None:
            if self._places.is_full and not self._make_place(sample):
                return None
            timeline = self._make_timeline(sample.machine)
            clock = (sample.is_calendar, sample.is_local, sample.unit)
            track = _Track(timeline, self._make_scorer(), sample.topic, *clock)
            self._tracks[key] = track
            self._machines_of[sample.topic] += 1
        self._places.note(key, sample.arrived)
        return track

    def _make_place(self, sample: Sample) -> bool:
        """Take the place of a silent machine, or one of a topic that has at least two more."""
        silent = self._places.find_silent(sample.arrived)
        if silent is not None:
            self._forget(silent)
            return True
        largest, count = max(self._machines_of.items(), key=lambda pair: pair[1])
        if count < self._machines_of[sample.topic] + 2:
            return False
        newest = next(key for key, track in reversed(self._tracks.items()) if track.topic == largest)
        self._forget(newest)
        return True

    def _forget(self, key: _Key) -> None:
        track = self._tracks.pop(key, None)
        self._places.forget(key)
        if track is not None:
            self._machines_of[track.topic] -= 1
            if not self._machines_of[track.topic]:
                del self._machines_of[track.topic]

    def _make_timeline(self, machine: str) -> Timeline:
        assert isinstance(self.session.channel_count, int)
        prefix = f"{machine}: " if machine else ""
        return Timeline(
            self.session.channel_count,
            self.options.time_rule(),
            self.counts,
            lambda text: self.warn(prefix + text),
            self._check_period,
        )

    def _check_period(self, period: float) -> None:
        """Refuse samples at another rate than those that the model was trained on.

        Raises:
            WrongPeriod: more than `PERIOD_TOLERANCE` off; the user has not given `--period`.
        """
        trained = grid_of({} if self.session.bundle is None else self.session.bundle.manifest).period
        if trained is None or self.options.period is not None:
            return
        if abs(period / trained - 1) > PERIOD_TOLERANCE:
            raise WrongPeriod(
                f"A step must take {trained:g} s, as in training; these samples come every {period:g} s. "
                "Resample them, or set --period to score them as they are."
            )

    def _make_scorer(self) -> Scorer:
        assert self.options.window is not None and self.options.stride is not None
        if self._step_model is not None:
            return CausalScorer(
                self._step_model, self.options.window, self.options.stride, self._check, self._signals
            )
        return WindowScorer(
            self.session, self.options.window, self.options.stride, self._check, self._signals
        )


def _clock_of(source: _Track | Sample) -> tuple[bool, bool]:
    return source.is_calendar, source.is_local


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
