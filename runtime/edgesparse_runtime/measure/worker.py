"""One measurement in a process of its own, so that load, first call and peak memory are the model's own.

`python -m edgesparse_runtime.measure.worker` reads a request as JSON from stdin and prints the result as
JSON; so the same words measure here and, through ssh, on another machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.errors import EdgeSparseError, InputError
from edgesparse_runtime.machine.memory_bounds import check_counts, check_spans
from edgesparse_runtime.machine.peak_memory import peak_memory
from edgesparse_runtime.machine.throttling import read_counters, since
from edgesparse_runtime.measure.environment import describe_environment
from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.measure.modules import profile_modules
from edgesparse_runtime.measure.paced_load import pace
from edgesparse_runtime.measure.soak import soak
from edgesparse_runtime.progress import progress
from edgesparse_runtime.session import Session

LEAST_CALLS = 20
# Latencies that travel with the result, for plots.
KEPT_LATENCIES = 2000


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        model: bundle or .onnx file.
        precision: "auto", "float32" or "int8".
        threads: of one prediction; None = what affinity and quota allow.
        batch: windows a call.
        length: steps a window; None = that of the inputs.
        seconds: how long to time calls for (at least 20 calls).
        data: file to take windows from; None = the bundle's golden windows, or random walks.
        modules: trace where the time goes.
        rates: windows a second to pace calls at, each for `seconds`.
        deadline: milliseconds for the paced calls; None = until the next is due.
        soak_runs, soak_minutes: a long run with changing lengths.
        sweep_threads, sweep_batch, sweep_length: what else to measure, one in turn, the rest as above.
    """

    model: str
    precision: str = "auto"
    threads: int | None = None
    batch: int = 1
    length: int | None = None
    seconds: float = 3.0
    data: str | None = None
    modules: bool = False
    rates: list[float] = field(default_factory=list)
    deadline: float | None = None
    soak_runs: int | None = None
    soak_minutes: float | None = None
    sweep_threads: list[int] = field(default_factory=list)
    sweep_batch: list[int] = field(default_factory=list)
    sweep_length: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_counts(
            {
                "--batch": self.batch,
                "--length": self.length,
                "--threads": self.threads,
                "--soak-runs": self.soak_runs,
                "--sweep-threads": self.sweep_threads,
                "--sweep-batch": self.sweep_batch,
                "--sweep-length": self.sweep_length,
            }
        )
        check_spans(
            {
                "--seconds": self.seconds,
                "--rate": self.rates,
                "--deadline": self.deadline,
                "--soak": self.soak_minutes,
            }
        )
        if self.deadline is not None and not self.rates:
            raise InputError("`--deadline` is for paced calls. Add --rate.")


def run_job(request: Request) -> dict[str, Any]:
    """Measure in a process of its own.

    Raises:
        EdgeSparseError: what `Session` raises; the message is passed on.
    """
    # The same code must be found whether it is installed or run from a source tree.
    paths = os.pathsep.join(p for p in sys.path if p)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgesparse_runtime.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    try:
        output, _ = process.communicate(json.dumps(asdict(request)))
    except BaseException:
        process.kill()
        process.wait()
        raise
    return read_answer(output, process.returncode)


def read_answer(output: str, code: int) -> dict[str, Any]:
    """The result in a job's output.

    Raises:
        EdgeSparseError: the job failed; with its message and exit code.
    """
    try:
        answer = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        answer = {"error": "the measuring process ended without a result"}
    if not isinstance(answer, dict) or "error" in answer:
        error = EdgeSparseError(answer["error"] if isinstance(answer, dict) else "unexpected result")
        error.exit_code = code if code in (1, 2, 3, 4) else 1
        raise error
    return answer


def run_jobs(request: Request, run: Callable[[Request], dict[str, Any]] = run_job) -> dict[str, Any]:
    """The request, and its sweeps: each point in a process of its own, with less time.

    Args:
        run: measures one request, here or elsewhere.
    """
    result = run(request)
    quick = asdict(request) | {
        "modules": False,
        "rates": [],
        "deadline": None,
        "soak_runs": None,
        "soak_minutes": None,
    }
    quick |= {"sweep_threads": [], "sweep_batch": [], "sweep_length": [], "seconds": request.seconds / 2}
    sweep: dict[str, list[dict[str, Any]]] = {}
    for name, values in (
        ("threads", request.sweep_threads),
        ("batch", request.sweep_batch),
        ("length", request.sweep_length),
    ):
        for value in values:
            _say(f"sweep: {name} {value}")
            point = run(Request(**(quick | {name: value})))["profile"]
            sweep.setdefault(name, []).append(point)
    return result | {"sweep": sweep}


def measure(request: Request) -> dict[str, Any]:
    """Measure in this process."""
    before, counters = peak_memory(), read_counters()

    attention = "auto"

    def open_session(trace: Path | None = None) -> Session:
        return Session(
            request.model,
            precision=request.precision,
            threads=request.threads,
            attention=attention,
            trace=trace,
        )

    start = time.perf_counter()
    session = open_session()
    load = 1e3 * (time.perf_counter() - start)
    data = None if request.data is None else Path(request.data)
    inputs = Inputs(session, batch=request.batch, length=request.length, data=data)
    start = time.perf_counter()
    session.predict(inputs.next(), batch_size=inputs.batch)
    first = 1e3 * (time.perf_counter() - start)
    times = time_fresh_calls(session, inputs, request.seconds)
    p50, p90, p95, p99 = (float(q) for q in np.percentile(times, [50, 90, 95, 99]))
    result: dict[str, Any] = {
        "profile": {
            "model": request.model,
            "precision": session.precision,
            "engine": session.engine_at(inputs.length),
            "why": session.switch.reason,
            "threads": session.threads,
            "batch": inputs.batch,
            "length": inputs.length,
            "inputs": inputs.source,
            "calls": len(times),
            "p50": p50,
            "p90": p90,
            "p95": p95,
            "p99": p99,
            "max": float(times.max()),
            "mean": float(times.mean()),
            "first": first,
            "load": load,
            "memory_before": before,
            "memory_peak": peak_memory(),
        },
        "latencies": [round(float(t), 4) for t in times[:: -(-len(times) // KEPT_LATENCIES)]],
    }
    if request.modules:
        float32 = session.bundle.read(session.bundle.model_file("float32")) if session.bundle else None
        # The table is of the model that these windows ran through.
        traced_model = session
        if session.takes_dense(inputs.length):
            attention = "dense"
            traced_model = open_session()
        traced = profile_modules(open_session, traced_model.read_model(), inputs, float32=float32)
        result["modules"] = [m.to_dict() for m in traced.modules]
        result["trace"] = {"calls": traced.calls, "traced_ms": traced.traced_ms, "events": traced.events}
    for rate in request.rates:
        _say(f"paced: {rate:g} windows a second for {request.seconds:g} s")
        paced = pace(session, inputs, rate=rate, deadline=request.deadline, seconds=request.seconds)
        result.setdefault("paced", []).append(paced.to_dict())
    if request.soak_runs is not None or request.soak_minutes is not None:
        minutes = request.soak_minutes
        soaked = soak(
            session, inputs, runs=request.soak_runs, seconds=None if minutes is None else 60 * minutes
        )
        result["soak"] = soaked.to_dict()
    result["conditions"] = since(counters).to_dict()
    result["environment"] = describe_environment()
    return result


def time_fresh_calls(session: Session, inputs: Inputs, seconds: float) -> np.ndarray:
    """Latency of single calls in milliseconds, each on new windows."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < LEAST_CALLS:
        window = inputs.next()
        start = time.perf_counter()
        session.predict(window, batch_size=inputs.batch)
        times.append(1e3 * (time.perf_counter() - start))
    return np.array(times)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a request asks for: a measurement, or with `verb` the checks of a bundle or its break-even."""
    if request.get("verb") == "verify":
        from edgesparse_runtime.evaluation.verify import verify_path

        checks = verify_path(Path(request["model"]), threads=request["threads"])
        return {"checks": [check.to_dict() for check in checks]}
    if request.get("verb") == "breakeven":
        from edgesparse_runtime.measure.breakeven import BreakEvenRequest, cells, measure_breakeven

        wanted = BreakEvenRequest(**request["request"])
        total = len(cells(open_bundle(wanted.model), wanted))
        with progress(f"break-even, {wanted.precision}", total) as shown:
            return {"entry": measure_breakeven(wanted, shown)}
    return measure(Request(**request))


if __name__ == "__main__":
    try:
        print(json.dumps(answer(json.load(sys.stdin))))
    except EdgeSparseError as error:
        # On stdout: stderr is progress, and on another machine anything may be printed there.
        print(json.dumps({"error": str(error)}))
        sys.exit(error.exit_code)
    except MemoryError:
        print(json.dumps({"error": "The measurement must fit into memory; it ran out. Use smaller windows."}))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
