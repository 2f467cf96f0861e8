"""Sessions with interleaved calls on the same windows: a ratio that survives a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval
from edgesparse_runtime.session import Session

LEAST_ROUNDS = 20
RESAMPLES = 1000


@dataclass(frozen=True)
class Ratio:
    """Median latency of the first over that of the second, with its 95 % bootstrap interval over rounds.

    Above 1 the second is faster.
    """

    value: float
    low: float
    high: float


def time_interleaved(
    a: Session, b: Session, next_window: Callable[[], FloatArray], seconds: float
) -> npt.NDArray[np.float64]:
    """Milliseconds per call [2, rounds]; both get the same windows. Three warm-up rounds are not counted.

    Args:
        next_window: a batch [batch, channels, steps] for the next round.
        seconds: computing time to measure for, at least 20 rounds.
    """
    return time_rounds((a, b), next_window, seconds)


def time_rounds(
    sessions: Sequence[Session], next_window: Callable[[], FloatArray], seconds: float
) -> npt.NDArray[np.float64]:
    """As `time_interleaved`, of any number of sessions: milliseconds per call [sessions, rounds]."""
    for _ in range(3):
        window = next_window()
        for session in sessions:
            session.predict(window, batch_size=len(window))
    rounds: list[list[float]] = []
    spent = 0.0
    while spent < 1e3 * seconds or len(rounds) < LEAST_ROUNDS:
        window = next_window()
        times = [0.0] * len(sessions)
        # The order rotates, forward and backward, so that none always finds the same other's caches.
        n, step = len(sessions), 1 if len(rounds) // len(sessions) % 2 else -1
        for i in [(len(rounds) + 1 + step * place) % n for place in range(n)]:
            start = time.perf_counter()
            sessions[i].predict(window, batch_size=len(window))
            times[i] = 1e3 * (time.perf_counter() - start)
        rounds.append(times)
        spent += sum(times)
    return np.array(rounds).T


def find_ratio(times: npt.NDArray[np.float64]) -> Ratio:
    """The ratio of `time_interleaved`; the two times of a round stay together."""
    low, high = bootstrap_interval(times.T, _ratio_of_medians, resamples=RESAMPLES)
    first, second = np.median(times, axis=-1)
    return Ratio(float(first / second), low, high)


def _ratio_of_medians(draws: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of draws [k, rounds, 2]."""
    medians = np.median(draws, axis=1)
    return np.asarray(medians[:, 0] / medians[:, 1])
