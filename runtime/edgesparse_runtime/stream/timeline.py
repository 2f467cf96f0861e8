"""`Timeline`: samples as they arrive, out of order and with holes, to steps of an even grid.

The rule is docs/guides/streaming.md, "Time". It looks at time stamps only, never at the machine's clock, so
the same samples in the same order always give the same steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgesparse_runtime.data.grid import StepGrid, estimate_period
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.sample import FloatArray, Sample, Step

# Samples that the period is read from when it is not given.
ESTIMATE_FROM = 32
# Fewer samples than this tell nothing of how coarse their clock is.
_LEAST_WATCHED = 8
# Late samples in a row, each later than the one before, that mean a clock that was set back.
CLOCK_BACK = 8
# Samples after which a clock is called too coarse, when more than half of them share a step with another.
COARSE_AFTER = 64
# Samples that wait for earlier ones: this many steps' worth times the lateness, and never more than so many
# bytes, each sample taken for its values and what holds them.
_HELD_PER_STEP = 4
_HELD_BYTES = 4 << 20
_SAMPLE_BYTES = 400


@dataclass(frozen=True)
class TimeRule:
    """How time stamps become steps.

    Attributes:
        period: seconds between steps; None = read from the first samples.
        lateness: seconds that a sample may come after one with a later time stamp.
        max_gap: steps in a row that may be missing; a longer gap restarts the window.
    """

    period: float | None = None
    lateness: float = 0.0
    max_gap: int = 0

    def __post_init__(self) -> None:
        if self.period is not None and not 0 < self.period < float("inf"):
            raise InputError(f"`period` must be above 0 seconds; got {self.period:g}.")
        if not 0 <= self.lateness < float("inf"):
            raise InputError(f"`lateness` must be at least 0 seconds; got {self.lateness:g}.")
        if self.max_gap < 0:
            raise InputError(f"`max_gap` must be at least 0 steps; got {self.max_gap}.")


class WrongPeriod(InputError):
    """The samples of one machine come at another rate than the model's, or their times do not give one."""


class Timeline:
    """Samples of one machine in, steps out, in order and without holes but restarts.

    Args:
        channels: of a sample.
        rule: how time stamps become steps.
        counts: where everything is counted that is not used.
        warn: told once when the clock is coarser than the samples.
        check_period: given the period that was read from the samples; may raise `InputError`.
    """

    def __init__(
        self,
        channels: int,
        rule: TimeRule,
        counts: Counts,
        warn: Callable[[str], None] = lambda text: None,
        check_period: Callable[[float], None] = lambda period: None,
    ) -> None:
        self._rule = rule
        self._counts = counts
        self._warn = warn
        self._check_period = check_period
        self._most_held = _HELD_BYTES // (_SAMPLE_BYTES + 4 * channels)
        # Samples so far and those that shared a step, until the clock is known to be fine enough.
        self._watched: int | None = 0
        self._shared = 0
        self._nothing = np.full(channels, np.nan, dtype=np.float32)
        self._grid = None if rule.period is None else StepGrid(rule.period)
        # Samples held back until the period is known, then until no earlier one may come any more.
        self._first: list[Sample] = []
        self._held: list[tuple[float, int, Sample]] = []
        self._arrival = 0
        self._newest = -float("inf")
        self._has_restarted = False
        # Samples that may be the first of a clock set back, and one that may be the first after a long gap.
        self._suspects: list[Sample] = []
        self._ahead: Sample | None = None

    def push(self, sample: Sample) -> Iterator[Step]:
        """The steps that `sample` makes known.

        Raises:
            InputError: the period read from the samples does not fit.
        """
        if sample.time is None:
            yield Step(sample.values, float(self._arrival), sample.arrived, False)
            self._arrival += 1
        elif self._grid is None:
            self._first.append(sample)
            if len(self._first) >= ESTIMATE_FROM:
                yield from self._begin()
        else:
            yield from self._receive(sample, sample.time)

    def finish(self) -> Iterator[Step]:
        """The steps of the samples still held back; the source has ended."""
        yield from self._begin()
        if self._ahead is not None and self._ahead.time is not None:
            yield from self._accept(self._ahead, self._ahead.time)
        yield from self._release(float("inf"))
        self._counts.late += len(self._suspects)
        self._suspects, self._ahead = [], None

    def _begin(self) -> Iterator[Step]:
        first, self._first = self._first, []
        if first:
            period = estimate_period([s.time for s in first if s.time is not None])
            self._check_period(period)
            _check_clock(first)
            self._grid = StepGrid(period)
        for sample in first:
            assert sample.time is not None
            yield from self._receive(sample, sample.time)

    def _receive(self, sample: Sample, time: float) -> Iterator[Step]:
        self._watch_clock()
        if self._on.last is not None:
            place = self._on.place(time)
            if place == 0:
                self._count_duplicate()
                return
            if place < 0:
                yield from self._suspect(sample, time)
                return
            if self._is_far_ahead(time):
                yield from self._confirm(sample, time)
                return
            if self._ahead is not None and time > self._newest:
                self._counts.strays += 1
                self._ahead = None
        self._counts.late += len(self._suspects)
        self._suspects = []
        yield from self._accept(sample, time)

    def _accept(self, sample: Sample, time: float) -> Iterator[Step]:
        heapq.heappush(self._held, (time, self._arrival, sample))
        self._arrival += 1
        self._newest = max(self._newest, time)
        yield from self._release(self._newest - self._rule.lateness)
        most = min(self._most_held, _HELD_PER_STEP * (64 + self._steps(self._rule.lateness)))
        if len(self._held) > most:
            # More samples than the rule can need, or than may be held: the earliest are placed now.
            early = len(self._held)
            yield from self._release(self._held[0][0])
            self._counts.early += early - len(self._held)

    @property
    def period(self) -> float | None:
        """Seconds between steps; None before it is known."""
        return None if self._grid is None else self._grid.period

    @property
    def _on(self) -> StepGrid:
        assert self._grid is not None
        return self._grid

    def _steps(self, seconds: float) -> int:
        return int(min(seconds / self._on.period, 1e15))

    def _watch_clock(self) -> None:
        """Warn once when most of the first samples share their step with another."""
        if self._watched is None:
            return
        self._watched += 1
        if self._watched == COARSE_AFTER:
            if 2 * self._shared > self._watched:
                self._warn(
                    f"the clock is coarser than the samples: {self._shared} of the first {self._watched} "
                    "share a time stamp or step with another and are not used. Send finer time stamps, or "
                    "none: every sample is then one step."
                )
            self._watched = None

    def _count_duplicate(self) -> None:
        self._counts.duplicates += 1
        self._shared += self._watched is not None

    def _is_far_ahead(self, time: float) -> bool:
        """Too far for a gap that is filled."""
        return time - self._newest > self._rule.lateness + (self._rule.max_gap + 1.5) * self._on.period

    def _confirm(self, sample: Sample, time: float) -> Iterator[Step]:
        """After a long gap, or a wild time stamp: the next sample decides.

        A wild time stamp that was accepted would end the window and make all later samples late.
        """
        if self._ahead is None or self._ahead.time is None:
            self._ahead = sample
            return
        before, self._ahead = self._ahead, None
        assert before.time is not None
        for held, at in sorted(((before, before.time), (sample, time)), key=lambda pair: pair[1]):
            yield from self._accept(held, at)

    def _suspect(self, sample: Sample, time: float) -> Iterator[Step]:
        """A sample too late to be used, unless it is the first of a clock that was set back."""
        if self._suspects and time <= (self._suspects[-1].time or 0.0):
            self._counts.late += len(self._suspects)
            self._suspects = []
        self._suspects.append(sample)
        if len(self._suspects) < CLOCK_BACK:
            return
        self._counts.strays += self._ahead is not None
        self._ahead = None
        yield from self._release(float("inf"))
        self._counts.clock_back += 1
        self._restart()
        again, self._suspects = self._suspects, []
        for held in again:
            assert held.time is not None
            yield from self._receive(held, held.time)

    def _restart(self) -> None:
        self._counts.restarts += 1
        self._on.restart()
        self._newest, self._has_restarted = -float("inf"), True

    def _release(self, until: float) -> Iterator[Step]:
        """Put held samples up to this time on the grid."""
        while self._held and self._held[0][0] <= until:
            time, _, sample = heapq.heappop(self._held)
            place = self._on.place(time)
            if place <= 0:
                # The grid has moved a little since it was received.
                self._count_duplicate()
                continue
            if place - 1 > self._rule.max_gap:
                newest = self._newest
                self._restart()
                self._newest = newest
                place = 1
            elif self._on.last is not None:
                yield from self._fill(self._on.last, place - 1, sample.arrived)
            values = self._merge_held(sample.values, time, place)
            self._on.advance(time, place)
            restarts, self._has_restarted = self._has_restarted, False
            yield Step(values, time, sample.arrived, restarts)

    def _fill(self, last: float, missing: int, arrived: float) -> Iterator[Step]:
        self._counts.filled += missing
        for i in range(1, missing + 1):
            yield Step(self._nothing, last + i * self._on.period, arrived, False)

    def _merge_held(self, values: FloatArray, time: float, place: int) -> FloatArray:
        """Values of one step from all held samples of it: the first has precedence, others fill in."""
        while self._held and self._is_same_step(self._held[0][0], time, place):
            _, _, other = heapq.heappop(self._held)
            self._count_duplicate()
            values = np.where(np.isnan(values), other.values, values)
        return values

    def _is_same_step(self, other: float, time: float, place: int) -> bool:
        if self._on.last is None:
            return other - time < self._on.period / 2
        return self._on.place(other) == place


def _check_clock(first: list[Sample]) -> None:
    """Refuse to read the period from a clock that gives most samples a time of another one.

    Samples that are sent again, or whose channels come one by one, are no sign of it.

    Raises:
        WrongPeriod: a period of that clock would score a few of the samples as if they were all.
    """
    seen: dict[float | None, Sample] = {}
    shared = sum(_contradict(seen.setdefault(sample.time, sample), sample) for sample in first)
    if len(first) >= _LEAST_WATCHED and 2 * shared > len(first):
        raise WrongPeriod(
            f"the clock is coarser than the samples: {shared} of the first {len(first)} share a time stamp "
            "with another. Send finer time stamps, or none: every sample is then one step. Or set --period."
        )


def _contradict(one: Sample, other: Sample) -> bool:
    """Both have a value of one channel, and the values differ."""
    known = np.isfinite(one.values) & np.isfinite(other.values)
    return bool((one.values != other.values)[known].any())
