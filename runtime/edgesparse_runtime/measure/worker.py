"""One measurement in a separate process, so that load, first call and peak memory are the model's own.

`python -m edgesparse_runtime.measure.worker` reads a job as JSON from stdin and prints the result as JSON;
so the same code measures here and, through ssh, on another machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.machine.peak_memory import peak_memory
from edgesparse_runtime.machine.progress import progress
from edgesparse_runtime.machine.throttling import read_counters, since
from edgesparse_runtime.measure.environment import describe_environment
from edgesparse_runtime.measure.inputs import Inputs
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.modules import ModuleProfile, profile_modules
from edgesparse_runtime.measure.paced_load import pace
from edgesparse_runtime.measure.results import Profile, ProfileResult, Trace
from edgesparse_runtime.measure.soak import Soak, soak
from edgesparse_runtime.session import Session

LEAST_CALLS = 20
# Latencies that travel with the result, for plots.
KEPT_LATENCIES = 2000


def run_job(job: Job) -> ProfileResult:
    """Measure in a separate process.

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
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": paths},
    )
    try:
        output, _ = process.communicate(json.dumps(asdict(job)))
    except BaseException:
        process.kill()
        process.wait()
        raise
    return ProfileResult.from_dict(read_answer(output, process.returncode))


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


def run_jobs(job: Job, run: Callable[[Job], ProfileResult] = run_job) -> ProfileResult:
    """The job, and its sweeps: each point in a process of its own, with half the time.

    Args:
        run: measures one job, on this machine or another.
    """
    result = run(job)
    quick = Job(
        model=job.model,
        precision=job.precision,
        threads=job.threads,
        batch=job.batch,
        length=job.length,
        seconds=job.seconds / 2,
        data=job.data,
    )
    sweep: dict[str, list[Profile]] = {}
    for name, values in (
        ("threads", job.sweep_threads),
        ("batch", job.sweep_batch),
        ("length", job.sweep_length),
    ):
        for value in values:
            _note(f"sweep: {name} {value}")
            setting: dict[str, Any] = {name: value}
            sweep.setdefault(name, []).append(run(replace(quick, **setting)).profile)
    return replace(result, sweep=sweep)


def measure(job: Job) -> ProfileResult:
    """Measure in this process."""
    before, counters = peak_memory(), read_counters()
    start = time.perf_counter()
    session = _open(job)
    load = 1e3 * (time.perf_counter() - start)
    data = None if job.data is None else Path(job.data)
    inputs = Inputs(session, batch=job.batch, length=job.length, data=data, spec=job.spec)
    start = time.perf_counter()
    session.predict(inputs.next(), batch_size=inputs.batch)
    first = 1e3 * (time.perf_counter() - start)
    times = time_fresh_calls(session, inputs, job.seconds)
    p50, p90, p95, p99 = (float(q) for q in np.percentile(times, [50, 90, 95, 99]))
    found = Profile(
        model=job.model,
        precision=session.precision,
        engine=session.engine_at(inputs.length),
        why=session.switch.reason,
        threads=session.threads,
        batch=inputs.batch,
        length=inputs.length,
        inputs=inputs.source,
        calls=len(times),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=float(times.max()),
        mean=float(times.mean()),
        first=first,
        load=load,
        memory_before=before,
        memory_peak=peak_memory(),
        window=inputs.window,
        precision_why=session.precision_reason,
    )
    traced = _trace_modules(job, session, inputs) if job.modules else None
    paced = []
    for rate in job.rates:
        _note(f"paced: {rate:g} windows per second for {job.seconds:g} s")
        paced.append(pace(session, inputs, rate=rate, deadline=job.deadline, seconds=job.seconds))
    return ProfileResult(
        profile=found,
        latencies=[round(float(t), 4) for t in times[:: -(-len(times) // KEPT_LATENCIES)]],
        modules=None if traced is None else traced.modules,
        trace=None if traced is None else Trace(traced.calls, traced.traced_ms, traced.events),
        paced=paced,
        soak=_soak(job, session, inputs),
        conditions=since(counters),
        environment=describe_environment(),
    )


def _open(job: Job, *, attention: str = "auto", trace: Path | None = None) -> Session:
    return Session(job.model, precision=job.precision, threads=job.threads, attention=attention, trace=trace)


def _trace_modules(job: Job, session: Session, inputs: Inputs) -> ModuleProfile:
    """The table of the model that these windows ran through."""
    is_dense = session.takes_dense(inputs.length)
    attention = "dense" if is_dense else "auto"
    traced_model = _open(job, attention=attention) if is_dense else session
    float32 = session.bundle.read(session.bundle.model_file("float32")) if session.bundle else None
    return profile_modules(
        lambda folder: _open(job, attention=attention, trace=folder),
        traced_model.read_model(),
        inputs,
        float32=float32,
    )


def _soak(job: Job, session: Session, inputs: Inputs) -> Soak | None:
    if job.soak_runs is None and job.soak_minutes is None:
        return None
    seconds = None if job.soak_minutes is None else 60 * job.soak_minutes
    return soak(session, inputs, runs=job.soak_runs, seconds=seconds)


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


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request: a measurement, or with `verb` the checks of a bundle or its break-even."""
    if request.get("verb") == "verify":
        from edgesparse_runtime.evaluation.verify import verify_path

        checks = verify_path(Path(request["model"]), threads=request["threads"])
        return {"checks": [check.to_dict() for check in checks]}
    if request.get("verb") == "breakeven":
        from edgesparse_runtime.measure.breakeven import BreakevenJob, cells, measure_breakeven

        wanted = BreakevenJob(**request["request"])
        total = len(cells(open_bundle(wanted.model), wanted))
        with progress(f"break-even, {wanted.precision}", total) as shown:
            return {"entry": measure_breakeven(wanted, shown)}
    return measure(Job(**request)).to_dict()


if __name__ == "__main__":
    try:
        print(json.dumps(answer(json.load(sys.stdin))))
    except EdgeSparseError as error:
        # On stdout: stderr is progress, and on another machine anything may be printed there.
        print(json.dumps({"error": str(error)}))
        sys.exit(error.exit_code)
    except MemoryError:
        print(json.dumps({"error": "The measurement ran out of memory. Use smaller windows."}))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
