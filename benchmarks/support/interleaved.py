"""Ratios of times that survive a busy machine: calls are interleaved, medians over rounds compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval

DoubleArray = npt.NDArray[np.float64]
Call = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the rival: median of the rival over median of ours.

    Attributes:
        value: above 1 = ours is faster.
        low: lower end of the 95 % bootstrap interval.
        high: upper end.
        ours_ms: our median.
        rival_ms: the rival's median.
        rounds: how many times each was called.
    """

    value: float
    low: float
    high: float
    ours_ms: float
    rival_ms: float
    rounds: int


def time_interleaved(
    calls: Sequence[Call], *, seconds: float, least: int = 7, most: int | None = None, pause: float = 0.0
) -> DoubleArray:
    """Seconds per call, [rounds, calls]; a first round warms up and is left out.

    Args:
        seconds: how long to measure.
        least: rounds to measure however long they take.
        most: rounds to stop at.
        pause: seconds to sleep before each call.
    """
    for call in calls:
        call()
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < least or (time.perf_counter() < end and (most is None or len(rounds) < most)):
        times = []
        for call in calls:
            if pause:
                time.sleep(pause)
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        rounds.append(times)
    return np.array(rounds)


def time_by_name(calls: Mapping[str, Call], *, seconds: float, least: int = 7) -> dict[str, DoubleArray]:
    """`time_interleaved` with a name per call."""
    times = time_interleaved(list(calls.values()), seconds=seconds, least=least)
    return dict(zip(calls, times.T, strict=True))


def find_ratio(ours: npt.ArrayLike, rival: npt.ArrayLike) -> Ratio:
    """Ratio of medians, with an interval over resampled rounds; the two times of a round stay together."""
    pairs = np.stack([np.asarray(rival), np.asarray(ours)], axis=1)
    low, high = bootstrap_interval(pairs, _ratio_of_medians)
    rival_median, our_median = np.median(pairs, axis=0)
    return Ratio(
        value=float(rival_median / our_median),
        low=low,
        high=high,
        ours_ms=1e3 * float(our_median),
        rival_ms=1e3 * float(rival_median),
        rounds=len(pairs),
    )


def _ratio_of_medians(draws: DoubleArray) -> DoubleArray:
    """[draws, rounds, 2] -> [draws]."""
    medians = np.median(draws, axis=1)
    return np.asarray(medians[:, 0] / medians[:, 1])
