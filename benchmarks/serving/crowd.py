"""A crowd of hostile connections, and honest clients who are to be answered meanwhile.

    python -m benchmarks.serving.crowd --connections 10000 --token

Prints one JSON object. The crowd connects, drips heads and bodies, leaves answers unread, vanishes, and comes
back; honest clients ask one request each on a new connection.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.serving.bundles import make_pair
from benchmarks.support.settings import SCRATCH
from tests.support.running import Running, running

DEADLINE = 10.0
HONEST = 100
_HOST = b"Host: localhost\r\n"
_SPARE = 200


@dataclass
class Crowd:
    """Hostile connections to one server, kept up by one thread."""

    port: int
    size: int
    head: bytes
    clients: list[socket.socket] = field(default_factory=list)
    made: int = 0
    is_done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Connects, drips, vanishes and comes back until it is told to end."""
        draw = random.Random(0)
        openings = (
            b"",
            b"GET /v2 HTTP/1.1\r\nX: ",
            b"POST /v2/models/pump/infer HTTP/1.1\r\n" + self.head + b"Content-Length: 99999\r\n\r\n",
            b"POST /v2/models/pump/infer HTTP/1.1\r\n" + self.head + b"Transfer-Encoding: chunked\r\n\r\n",
            (b"GET /v2/models/pump HTTP/1.1\r\n" + self.head + b"\r\n") * 20,
        )
        while not self.is_done.is_set():
            for _ in range(100):
                if len(self.clients) >= self.size:
                    break
                self._connect(draw.choice(openings))
            for client in draw.sample(self.clients, min(50, len(self.clients))):
                if draw.random() < 0.02 or not _send(client, b"a"):
                    self.clients.remove(client)
                    client.close()
            time.sleep(0.05)
        for client in self.clients:
            client.close()

    def _connect(self, opening: bytes) -> None:
        client = socket.socket()
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.connect(("127.0.0.1", self.port))
        self.clients.append(client)
        self.made += 1
        # The kernel sends it when the connection stands; one that is not there yet stays silent.
        _send(client, opening)


def _send(client: socket.socket, content: bytes) -> bool:
    try:
        client.send(content)
    except BlockingIOError:
        return True
    except OSError as error:
        return error.errno == 107
    return True


def measure_crowd(connections: int, *, with_token: bool) -> dict[str, Any]:
    """Honest requests while a crowd attacks.

    Returns:
        The share `answered` within the deadline, the server's memory at rest and at most in MB, hostile
        connections `at_once` (fewer where this process may not open as many) and in all.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, connections + _SPARE)), hard))
    with TemporaryDirectory() as folder:
        pair = make_pair(SCRATCH / "serve")
        options: list[object] = [f"pump={pair.bundles[0].path}", "--timeout", DEADLINE]
        headers = {}
        if with_token:
            token = Path(folder) / "token"
            token.write_text("a" * 32)
            token.chmod(0o600)
            options += ["--token-file", token]
            headers = {"Authorization": "Bearer " + "a" * 32}
        with running(*options) as server:
            rest = _memory(server)
            # With a token the crowd has none.
            crowd = Crowd(server.port, min(connections, _limit()), _HOST)
            thread = threading.Thread(target=crowd.run)
            thread.start()
            try:
                found = _ask(server, crowd, pair.windows[0], headers)
            finally:
                crowd.is_done.set()
                thread.join()
            return {"rest_mb": rest, "connections": crowd.made, **found}


def _ask(server: Running, crowd: Crowd, window: np.ndarray, headers: dict[str, str]) -> dict[str, Any]:
    while len(crowd.clients) < crowd.size:
        time.sleep(0.1)
    at_once = len(crowd.clients)
    data = [float(value) for value in window.ravel()]
    tensor = {"name": "window", "datatype": "FP32", "shape": list(window.shape), "data": data}
    body, answered, slowest, peak = json.dumps({"inputs": [tensor]}), 0, 0.0, 0.0
    for number in range(HONEST):
        began = time.monotonic()
        with contextlib.suppress(OSError):
            status = server.ask("POST", "/v2/models/pump/infer", body, headers).status
            spent = time.monotonic() - began
            answered += status == 200 and spent <= DEADLINE
            slowest = max(slowest, spent)
        peak = max(peak, _memory(server))
        if number % 20 == 19:
            print(f"crowd: {number + 1} of {HONEST} honest requests", file=sys.stderr, flush=True)
    return {"answered": answered / HONEST, "at_once": at_once, "slowest_s": slowest, "peak_mb": peak}


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE


def _memory(server: Running) -> float:
    """Resident memory of the server in MB."""
    text = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    """One measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000, help="of the crowd, all at once")
    parser.add_argument(
        "--token", action="store_true", help="the server requires one, and the crowd has none"
    )
    options = parser.parse_args()
    print(json.dumps(measure_crowd(options.connections, with_token=options.token)))


if __name__ == "__main__":
    main()
