"""Latency and memory through the same `Session` that an application uses.

`profile` starts a fresh process, so that load time, first inference and peak memory are the model's own and
not those of whatever was imported before. Inputs are new each call. Preprocessing is part of the graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesparse_runtime.machine.peak_memory import peak_memory as peak_memory
from edgesparse_runtime.measure.worker import Request, run_job


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
