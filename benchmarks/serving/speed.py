"""Throughput of the server against the runner alone, and latency against FastAPI without us.

Server and load generator share this machine. So three figures, measured in turns:

- requests a second of the server with one runner of one thread, over windows a second of `Session.predict` in
  one process, batch 8, one thread (the second core carries HTTP and the load generator);
- the same with as many runners, or threads, as there are cores, where server, load and models share them;
- processor time a window of the runner over that a request of the server, which does not depend on who shares
  what.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from benchmarks.serving.bundles import Pair
from benchmarks.serving.load import Load, make_requests, run_load
from benchmarks.serving.soak import processor_seconds
from edgesparse_runtime.session import Session, default_threads
from tests.support.running import ENVIRONMENT, ROOT, running

CONNECTIONS = 32
BATCH = 8


def speed(pair: Pair, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all in turns: `rounds` times `seconds` each."""
    cores = default_threads()
    bundle = pair.bundles[0]
    alone = {f"runner, {n} thread(s)": Session(bundle, threads=n) for n in sorted({1, cores})}
    windows = np.concatenate(pair.windows)
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        servers = {}
        for runs in sorted({1, cores}):
            server = stack.enter_context(
                running(f"pump={bundle.path}", "--parallel", runs, "--reload-every", 0)
            )
            servers[f"server, {runs} runner(s)"] = (server.port, server.process.pid)
        servers["FastAPI"] = stack.enter_context(_fastapi(str(bundle.path)))
        for turn in range(rounds + 1):
            for name, session in alone.items():
                measured = _run_alone(session, windows, seconds if turn else 0.5)
                if turn:
                    found.setdefault(name, []).append(measured)
            for name, (port, process) in servers.items():
                requests = make_requests("/v2/models/pump/infer", pair.windows, port)
                before = processor_seconds(process)
                load = asyncio.run(
                    run_load(
                        port,
                        requests,
                        {} if name == "FastAPI" else pair.expected,
                        count=10**9,
                        connections=CONNECTIONS,
                        most_seconds=seconds if turn else 0.5,
                    )
                )
                if turn:
                    used = processor_seconds(process) - before
                    found.setdefault(name, []).append(_figures(load, used))
    medians = {
        name: {key: float(np.median([turn[key] for turn in turns])) for key in turns[0]}
        for name, turns in found.items()
    }
    one, many = ("runner, 1 thread(s)", f"runner, {cores} thread(s)")
    return {
        "cores": cores,
        "steps": int(windows.shape[-1]),
        "medians": medians,
        "ratio_one": medians["server, 1 runner(s)"]["rate"] / medians[one]["rate"],
        "ratio_all_cores": medians[f"server, {cores} runner(s)"]["rate"] / medians[many]["rate"],
        "ratio_processor": medians[one]["ms"] / medians["server, 1 runner(s)"]["ms"],
        "wrong": sum(turn.get("wrong", 0) for turns in found.values() for turn in turns),
    }


def _run_alone(session: Session, windows: np.ndarray[Any, Any], seconds: float) -> dict[str, float]:
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        at = count % len(windows)
        session.predict(windows[at : at + BATCH], batch_size=BATCH)
        count += BATCH
    took = time.perf_counter() - start
    return {"rate": count / took, "ms": 1e3 * (time.process_time() - cpu) / count}


def _figures(load: Load, used: float) -> dict[str, float]:
    facts = load.to_dict()
    return {
        "rate": facts["rate"],
        "ms": 1e3 * used / max(1, load.answered),
        "p50_ms": facts["p50_ms"],
        "p99_ms": facts["p99_ms"],
        "client_ms": facts["client_ms_per_request"],
        "wrong": load.mixed_up + load.unknown + load.asked - load.answered,
    }


@contextmanager
def _fastapi(bundle: str) -> Iterator[tuple[int, int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving.fastapi", bundle],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
