"""Latency and memory through the same `Session` that an application uses.

`profile` starts a fresh process, so that load time, first inference and peak memory are the model's own and
not those of whatever was imported before. Inputs are new each call. Preprocessing is part of the graph.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.tensor_batch import TensorBatch, golden_inputs

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Profile:
    """What was measured; times in milliseconds, memory in MB (2**20 bytes).

    Attributes:
        model: path.
        precision: that ran.
        engine: what ran the sparse operator.
        threads: of one prediction.
        batch: windows a call.
        length: steps a window.
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
    threads: int
    batch: int
    length: int
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
        data: an .npz of windows X [n, channels, time] to take inputs from; None = random walks.

    Raises:
        EdgeSparseError: what `Session` raises; the message is passed on.
    """
    request = {
        "model": str(model),
        "precision": precision,
        "threads": threads,
        "batch": batch,
        "length": length,
        "seconds": seconds,
        "data": None if data is None else str(data),
    }
    if batch < 1 or seconds <= 0 or (length is not None and length < 1):
        raise InputError("`batch` and `length` must be at least 1, and `seconds` above 0.")
    # The same code must be found whether it is installed or run from a source tree.
    paths = os.pathsep.join(p for p in sys.path if p)
    result = subprocess.run(
        [sys.executable, "-m", "edgesparse_runtime.profiling", json.dumps(request)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or ["the measuring process ended without a word"]
        error = EdgeSparseError(lines[-1])
        error.exit_code = result.returncode if result.returncode in (1, 2, 3, 4) else 1
        raise error
    return Profile(**json.loads(result.stdout.strip().splitlines()[-1]))


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


def peak_memory() -> float:
    """Peak resident memory of this process in MB."""
    # Linux hands a parent's peak on to its children in getrusage, but not here.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _measure(request: dict[str, Any]) -> Profile:
    memory_before = peak_memory()
    start = time.perf_counter()
    session = Session(request["model"], precision=request["precision"], threads=request["threads"])
    load = 1e3 * (time.perf_counter() - start)
    if request["data"]:
        with np.load(request["data"], allow_pickle=False) as archive:
            series = np.asarray(archive["X"], dtype=np.float32)
        rows = [
            np.resize(np.roll(series, -i, axis=0), (request["batch"], *series.shape[1:]))
            for i in range(len(series))
        ]
        windows = rows[:16]
    else:
        windows = make_windows(session, 16, request["batch"], request["length"])
    start = time.perf_counter()
    session.predict(windows[0], batch_size=len(windows[0]))
    first = 1e3 * (time.perf_counter() - start)
    times = np.array(time_calls(session, windows, request["seconds"]))
    p50, p90, p95, p99 = (float(q) for q in np.percentile(times, [50, 90, 95, 99]))
    return Profile(
        model=request["model"],
        precision=session.precision,
        engine=session.engine,
        threads=session.threads,
        batch=len(windows[0]),
        length=windows[0].shape[2],
        calls=len(times),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=float(times.max()),
        mean=float(times.mean()),
        first=first,
        load=load,
        memory_before=memory_before,
        memory_peak=peak_memory(),
    )


if __name__ == "__main__":
    try:
        print(json.dumps(_measure(json.loads(sys.argv[1])).to_dict()))
    except EdgeSparseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
