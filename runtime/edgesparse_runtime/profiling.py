"""Latency and memory through the same `Session` that an application uses.

`profile` starts a fresh process, so that load time, first inference and peak memory are the model's own and
not those of whatever was imported before. Inputs are new each call. Preprocessing is part of the graph.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.job import Request, run_job
from edgesparse_runtime.measure.memory import peak_memory as peak_memory
from edgesparse_runtime.session import Session
from edgesparse_runtime.tensor_batch import TensorBatch, golden_inputs

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Profile:
    """What was measured; times in milliseconds, memory in MB (2**20 bytes).

    Attributes:
        model: path.
        precision: that ran.
        engine: what ran attention.
        why: the dense twin runs or does not (docs/break-even.md).
        threads: of one prediction.
        batch: windows a call.
        length: steps a window.
        inputs: where the windows came from.
        calls: how many were timed.
        p50, p90, p95, p99, max, mean: of a call's latency.
        first: the first call after loading.
        load: opening the model.
        memory_before: peak memory of the process before the model is loaded.
        memory_peak: peak memory after all calls.
    """

    model: str
    precision: str
    engine: str
    why: str
    threads: int
    batch: int
    length: int
    inputs: str
    calls: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    mean: float
    first: float
    load: float
    memory_before: float
    memory_peak: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def profile(
    model: str | Path,
    *,
    precision: str = "auto",
    threads: int | None = None,
    batch: int = 1,
    length: int | None = None,
    seconds: float = 3.0,
    data: Path | None = None,
) -> Profile:
    """Measure a bundle or model in a process of its own.

    Args:
        length: steps a window; None = the longest training window.
        seconds: how long to time calls for (at least 20 calls).
        data: a data file to take inputs from; None = the bundle's golden windows, or random walks.

    Raises:
        EdgeSparseError: what `Session` raises; the message is passed on.
    """
    request = Request(
        model=str(model),
        precision=precision,
        threads=threads,
        batch=batch,
        length=length,
        seconds=seconds,
        data=None if data is None else str(data),
    )
    return Profile(**run_job(request)["profile"])


def make_windows(session: Session, count: int, batch: int, length: int | None) -> list[FloatArray]:
    """Different inputs for `count` calls: random walks, each [batch, channels, length].

    A model that takes tensors gets the golden ones of its bundle, in turns.
    """
    if session.takes_tensors:
        return _golden_batches(session, count, batch, length)
    if length is None:
        length = int(session.bundle.manifest["input"]["longest"]) if session.bundle else 1024
    channels = session.channel_count if isinstance(session.channel_count, int) else 1
    rng = np.random.default_rng(0)
    walks = rng.standard_normal((count, batch, channels, length)).cumsum(axis=-1)
    return list(walks.astype(np.float32))


def _golden_batches(session: Session, count: int, batch: int, length: int | None) -> list[FloatArray]:
    golden = golden_inputs(session.bundle.golden()) if session.bundle else None
    if not isinstance(golden, TensorBatch):
        raise InputError(f"{session.path.name} takes named tensors: profile its bundle, which holds some.")
    if length is not None:
        raise InputError(
            "`length` must be left out; inputs of a model that takes tensors are its golden ones."
        )
    rows = [[(i + k) % len(golden) for k in range(batch)] for i in range(count)]
    batches = [TensorBatch({name: x[row] for name, x in golden.arrays.items()}) for row in rows]
    # A `TensorBatch` is to `Session.predict` what a batch of windows is.
    return batches  # type: ignore[return-value]


def time_calls(session: Session, windows: list[FloatArray], seconds: float, least: int = 20) -> list[float]:
    """Latency of single calls in milliseconds; inputs take turns."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < least:
        window = windows[len(times) % len(windows)]
        start = time.perf_counter()
        session.predict(window, batch_size=len(window))
        times.append(1e3 * (time.perf_counter() - start))
    return times
