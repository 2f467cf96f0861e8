"""A real server in a process of its own, and a plain client for it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.paths import ROOT as ROOT
from tests.support.paths import source_environment
from tests.support.processes import CLI, start

ENVIRONMENT = source_environment(OMP_NUM_THREADS="1")


@dataclass
class Answer:
    """Status, headers (lower case) and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that takes requests.

    Attributes:
        url: its address.
        events: what it logged so far.
    """

    process: subprocess.Popen[str]
    url: str
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def infer(self, model: str, window: npt.NDArray[np.float32], **changes: Any) -> Answer:
        """A JSON infer request; NaN goes as null."""
        data = [None if np.isnan(v) else float(v) for v in window.ravel()]
        tensor = {"name": "window", "datatype": "FP32", "shape": list(window.shape), "data": data} | changes
        return self.ask("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}))

    def event(self, name: str) -> dict[str, Any] | None:
        """The last event of that name, None without one."""
        return next((e for e in reversed(self.events) if e["event"] == name), None)

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


@contextmanager
def running(*arguments: object, descriptors: int | None = None) -> Iterator[Running]:
    """`edgesparse serve ARGUMENTS` on a free port of loopback, ended at the end.

    Args:
        descriptors: that the process may have open; None = as this one.
    """
    limit = () if descriptors is None else ("prlimit", f"--nofile={descriptors}:{descriptors}")
    process = start(*limit, *CLI, "serve", *arguments, "--port", "0", "--json")
    assert process.stdout is not None and process.stderr is not None
    server = Running(process, "")
    errors = process.stderr

    def listen() -> None:
        for line in errors:
            server.events.append(
                json.loads(line) if line.startswith("{") else {"event": "text", "text": line.strip()}
            )

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        if not text:
            process.wait(timeout=10)
            listener.join(timeout=5)
            raise AssertionError(server.events)
        server.url = json.loads(text)["url"]
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)
        listener.join(timeout=5)
        process.stdout.close()
        process.stderr.close()
