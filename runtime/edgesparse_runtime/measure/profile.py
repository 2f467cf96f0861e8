"""Latency and memory through the same `Session` that an application uses.

`profile` starts a fresh process, so that load time, first inference and peak memory are the model's own and
not those of whatever was imported before. Inputs are new each call. Preprocessing is part of the graph.
"""

from __future__ import annotations

from pathlib import Path

from edgesparse_runtime.machine.peak_memory import peak_memory as peak_memory
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.results import Profile as Profile
from edgesparse_runtime.measure.worker import run_job


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
    """Measure a bundle or model in a separate process.

    Args:
        length: steps per window; None = that of the inputs.
        seconds: how long to time calls for (at least 20 calls).
        data: a data file to take inputs from; None = the bundle's golden windows, or random walks.

    Raises:
        EdgeSparseError: what `Session` raises; the message is passed on.
    """
    job = Job(
        model=str(model),
        precision=precision,
        threads=threads,
        batch=batch,
        length=length,
        seconds=seconds,
        data=None if data is None else str(data),
    )
    return run_job(job).profile
