"""Ratios of times that survive a noisy machine: candidates take turns call by call, medians are compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the rival: median of the rival over median of ours.

    Attributes:
        value: above 1 = ours is faster.
        low: lower end of the 95 % bootstrap interval.
        high: upper end.
        ours_ms: our median.
        rival_ms: the rival's median.
    """

    value: float
    low: float
    high: float
    ours_ms: float
    rival_ms: float


def take_turns(
    candidates: dict[str, Callable[[], object]], *, seconds: float, least: int = 7
) -> dict[str, list[float]]:
    """Call each candidate in turn until `seconds` have passed; returns seconds a call.

    The first round is a warm-up and left out.
    """
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < least:
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return times


def ratio(ours: list[float], rival: list[float], *, seed: int = 0, resamples: int = 2000) -> Ratio:
    """Ratio of medians with a bootstrap interval over rounds (pairs stay together)."""
    pairs = np.array([rival, ours])
    picks = np.random.default_rng(seed).integers(0, pairs.shape[1], (resamples, pairs.shape[1]))
    medians = np.median(pairs[:, picks], axis=-1)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    rival_median, our_median = np.median(pairs, axis=1)
    return Ratio(
        float(rival_median / our_median),
        float(low),
        float(high),
        1e3 * float(our_median),
        1e3 * float(rival_median),
    )
