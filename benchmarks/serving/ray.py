"""Ray Serve with two replicas, one of them killed again and again under load: no request is lost.

python -m benchmarks.serving.ray SECONDS    prints what came of it as JSON

"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.serving.bundles import Pair
from benchmarks.serving.load import make_requests
from tests.support.running import ENVIRONMENT, ROOT

REPLICAS = 2
CONNECTIONS = 8
KILL_EVERY = 4.0


def measure(pair: Pair, seconds: float) -> dict[str, Any]:
    """Start the application with `edgesparse deploy ray`, load it, kill replicas."""
    import asyncio

    from benchmarks.serving.load import run_load

    bundle = pair.bundles[0]
    port = _free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edgesparse_runtime.cli", "deploy", "ray", str(bundle.path)),
            *("--replicas", str(REPLICAS), "--port", str(port), "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    killed: list[int] = []
    done = threading.Event()
    killer = threading.Thread(target=_kill, args=(process.pid, done, killed))
    try:
        _wait_for_json(process)
        killer.start()
        path = f"/v2/models/{bundle.path.name.split('.')[0]}/infer"
        load = asyncio.run(
            run_load(
                port,
                make_requests(path, pair.windows, port),
                pair.expected,
                count=10**9,
                connections=CONNECTIONS,
                most_seconds=seconds,
            )
        )
    finally:
        done.set()
        process.send_signal(signal.SIGTERM)
        if killer.is_alive():
            killer.join()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
    return load.to_dict() | {"killed": len(killed), "replicas": REPLICAS, "exit": process.returncode}


def _kill(driver: int, done: threading.Event, killed: list[int]) -> None:
    """kill -9 one replica every few seconds, always with another one alive."""
    while not done.wait(KILL_EVERY):
        replicas = find_replicas(driver)
        if len(replicas) == REPLICAS:
            os.kill(replicas[len(killed) % REPLICAS], signal.SIGKILL)
            killed.append(replicas[0])


def find_replicas(driver: int) -> list[int]:
    """Processes of the model's replicas that our application started; none of anybody else's Ray."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(status.split("PPid:")[1].split()[0])
    ours = {driver}
    for _ in range(8):
        ours |= {child for child, parent in parents.items() if parent in ours}
    return sorted(
        pid for pid in ours if names.get(pid, b"").startswith(b"ray::ServeReplica:edgesparse:Model")
    )


def _wait_for_json(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    end = time.monotonic() + 180
    for line in process.stdout:
        if line == "}\n":
            return
        if time.monotonic() > end:
            break
    raise RuntimeError("the Ray Serve application did not start")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    from benchmarks.serving.bundles import make_pair

    print(json.dumps(measure(make_pair(ROOT / "bench-results" / "serve"), float(sys.argv[1]))))
