"""Load while the bundle is replaced every second: nothing lost, nothing mixed up, no growth."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.serving.bundles import Pair, put
from benchmarks.serving.load import make_requests, run_load
from benchmarks.serving.memory import growth
from tests.support.running import Running, running

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(process: int) -> float:
    """Resident memory of a process in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / (1 << 20)


def processor_seconds(process: int) -> float:
    """Processor time of a process and of its children that have ended."""
    facts = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, facts[11:15])) / float(os.sysconf("SC_CLK_TCK"))


def soak(pair: Pair, requests: int, connections: int, most_seconds: float) -> dict[str, Any]:
    """One server under `requests` requests; its bundle is replaced once a second."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pump.edgesparse"
        put(pair.bundles[0], path)
        # Rehearsing each of these bundles in a process of its own would take a core of the two.
        with running(path, "--reload-every", 0.2, "--no-rehearse") as server:
            done = threading.Event()
            swaps: list[float] = []
            memory: list[tuple[float, float]] = []
            watchers = [
                threading.Thread(target=_swap, args=(pair, path, done, swaps)),
                threading.Thread(target=_watch, args=(server, done, memory)),
            ]
            for watcher in watchers:
                watcher.start()
            try:
                load = asyncio.run(
                    run_load(
                        server.port,
                        make_requests("/v2/models/pump/infer", pair.windows, server.port),
                        pair.expected,
                        count=requests,
                        connections=connections,
                        most_seconds=most_seconds,
                    )
                )
            finally:
                done.set()
                for watcher in watchers:
                    watcher.join()
            server_seconds = processor_seconds(server.process.pid)
            code = server.end()
            reloads = sum(e["event"] == "reloaded" for e in server.events)
            refused = [e["reason"] for e in server.events if e["event"] == "reload refused"]
    found = load.to_dict()
    return found | {
        "requests": requests,
        "connections": connections,
        "swaps": len(swaps),
        "reloads": reloads,
        "reloads_refused": refused[:3],
        "exit": code,
        "server_ms_per_request": 1e3 * server_seconds / max(1, load.answered),
        "memory_mb": [round(m, 1) for _, m in memory[:: max(1, len(memory) // 30)]],
        "growth_mb_a_1000_requests": asdict(growth(memory, load.answered / load.seconds / 1000)),
        "growth_mb_a_reload": asdict(growth(memory, reloads / load.seconds)),
    }


def _swap(pair: Pair, path: Path, done: threading.Event, swaps: list[float]) -> None:
    for bundle in itertools.cycle(reversed(pair.bundles)):
        if done.wait(1.0):
            return
        put(bundle, path)
        swaps.append(time.monotonic())


def _watch(server: Running, done: threading.Event, memory: list[tuple[float, float]]) -> None:
    start = time.monotonic()
    while not done.wait(0.1):
        memory.append((time.monotonic() - start, resident(server.process.pid)))
