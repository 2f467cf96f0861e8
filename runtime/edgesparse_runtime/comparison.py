"""Two models on the same inputs, call by call in turns: a ratio that survives a busy machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.profiling import make_windows, time_calls
from edgesparse_runtime.session import Session


@dataclass(frozen=True)
class Comparison:
    """Latencies in milliseconds.

    Attributes:
        ratio: median latency of A over that of B: above 1, B is faster.
        low: lower end of the ratio's 95 % bootstrap interval.
        high: upper end.
        rounds: how often each was called.
        a_p50, a_p99, b_p50, b_p99: latencies.
        a_engine, b_engine: what ran the sparse operator.
        length: steps a window.
        threads: of each.
    """

    ratio: float
    low: float
    high: float
    rounds: int
    a_p50: float
    a_p99: float
    b_p50: float
    b_p99: float
    a_engine: str
    b_engine: str
    length: int
    threads: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    a: Session, b: Session, *, length: int | None = None, batch: int = 1, seconds: float = 5.0
) -> Comparison:
    """Time A and B in turns on the same windows.

    Raises:
        InputError: they take different channels or run with different thread counts.
    """
    if a.channel_count != b.channel_count:
        raise InputError(
            f"A and B must take the same channels; A takes {a.channel_count}, B {b.channel_count}."
        )
    if a.threads != b.threads:
        raise InputError(f"A and B must run on equal threads; got {a.threads} and {b.threads}.")
    windows = make_windows(a, 16, batch, length)
    for session in (a, b):
        time_calls(session, windows, 0.0, least=3)
    times = np.empty((2, 0))
    spent = 0.0
    while spent < 1e3 * seconds or times.shape[1] < 20:
        window = windows[times.shape[1] % len(windows)]
        # The order alternates, so that neither always finds the other's caches.
        order = (0, 1) if times.shape[1] % 2 else (1, 0)
        pair = np.empty((2, 1))
        for i in order:
            pair[i, 0] = time_calls((a, b)[i], [window], 0.0, least=1)[0]
        times = np.concatenate([times, pair], axis=1)
        spent += float(pair.sum())
    picks = np.random.default_rng(0).integers(0, times.shape[1], (1000, times.shape[1]))
    medians = np.median(times[:, picks], axis=-1)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    (a_p50, a_p99), (b_p50, b_p99) = (np.percentile(t, [50, 99]) for t in times)
    return Comparison(
        ratio=float(a_p50 / b_p50),
        low=float(low),
        high=float(high),
        rounds=times.shape[1],
        a_p50=float(a_p50),
        a_p99=float(a_p99),
        b_p50=float(b_p50),
        b_p99=float(b_p99),
        a_engine=a.engine,
        b_engine=b.engine,
        length=windows[0].shape[2],
        threads=a.threads,
    )
