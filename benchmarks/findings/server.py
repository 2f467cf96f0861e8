"""Findings of the server: 9, 10, 11, 17, 18, 19, 20, 29, 30, 31."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from benchmarks.findings.box import Box, Outcome, constant, environment, model_of

_HOST = b"Host: localhost\r\n"
_BODY = json.dumps(
    {"inputs": [{"name": "window", "datatype": "FP32", "shape": [1, 1, 8], "data": [1.0] * 8}]}
).encode()
_CODE = "import sys\nfrom edgesparse_runtime.cli.app import run\nsys.exit(run(sys.argv[1:]))"


class _Server:
    def __init__(self, port: int, process: subprocess.Popen[bytes], log: str) -> None:
        self.port, self.process, self.log = port, process, log

    def connect(self, buffer: int | None = None) -> socket.socket:
        found = socket.socket()
        if buffer is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        found.settimeout(15)
        found.connect(("127.0.0.1", self.port))
        return found

    def memory(self) -> int:
        """Resident, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(row.split()[1]) >> 10 for row in text.splitlines() if row.startswith("VmRSS:"))

    def answer(self, request: bytes) -> bytes:
        """The status line of the answer."""
        with self.connect() as client:
            client.sendall(request)
            try:
                return client.recv(65536).split(b"\r\n")[0]
            except TimeoutError:
                return b"no answer"

    def infer(self, headers: bytes = b"", body: bytes = _BODY, host: bytes = _HOST) -> bytes:
        head = b"POST /v2/models/m/infer HTTP/1.1\r\n" + host + headers
        return self.answer(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@contextmanager
def _serving(
    box: Box, model: bytes | None = None, *options: object, files: int | None = None
) -> Iterator[_Server]:
    path, log = str(box.bundle("m", model)), box.folder / "log"
    limit = ""
    if files is not None:
        limit = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
    command = [box.python, "-c", limit + _CODE, "serve", path, "--port", "0", "--json", *map(str, options)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=box.folder, env=environment(), stdout=subprocess.PIPE, stderr=errors
        )
        try:
            assert process.stdout is not None
            text, end = b"", time.monotonic() + 90
            while b"}" not in text and time.monotonic() < end and process.poll() is None:
                if select.select([process.stdout], [], [], 0.5)[0]:
                    text += os.read(process.stdout.fileno(), 65536)
            if b"}" not in text:
                raise RuntimeError(f"the server did not start: {log.read_text()[-300:]}")
            port = int(json.loads(text)["url"].rsplit(":", 1)[1])
            yield _Server(port, process, str(log))
        finally:
            process.kill()
            process.wait()


def dripping_body(box: Box) -> Outcome:
    """A body that drips, a byte each second, after a 404; the deadline is 2 s."""
    with _serving(box, None, "--timeout", 2) as server, server.connect() as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\n" + _HOST + b"Content-Length: 100000\r\n\r\n")
        client.settimeout(0.1)
        start = time.monotonic()
        while time.monotonic() - start < 12:
            try:
                client.sendall(b"x")
                if client.recv(65536) == b"":
                    return Outcome(False, f"closed after {time.monotonic() - start:.0f} s")
            except TimeoutError:
                time.sleep(0.9)
            except OSError:
                return Outcome(False, f"closed after {time.monotonic() - start:.0f} s")
        return Outcome(True, "still open after 12 s")


def unread_answers(box: Box) -> Outcome:
    """20,000 requests of one connection whose answers are not read; the deadline is 3 s."""
    with _serving(box, None, "--timeout", 3) as server, server.connect(4096) as client:
        before = server.memory()
        request = b"GET /openapi.json HTTP/1.1\r\n" + _HOST + b"\r\n"
        client.settimeout(4)
        sent = 0
        with suppress(OSError):
            for _ in range(200):
                client.sendall(request * 100)
                sent += 100
        time.sleep(4)
        more = server.memory() - before
    return Outcome(more > 30, f"{sent} requests sent; {more} MB more, 4 s after the last")


_EXCHANGE = """
import os, sys
from pathlib import Path
try:
    from edgesparse_runtime.serving import registry as module
    from edgesparse_runtime.serving.addresses import Address
    make = module.Registry
except ImportError:
    from edgesparse_runtime.serving import shelf as module
    from edgesparse_runtime.serving.places import Place as Address
    make = module.Shelf
from edgesparse_runtime.serving.settings import Settings
path, tried, never = map(Path, sys.argv[1:])
found = make([Address("m", "1", path)], Settings(precision="float32", threads=1))
plain = module.rehearse
def rehearse(*given):
    seen = plain(*given)
    if never.exists():
        path.rename(path.with_name("gone"))
        never.rename(path)
    return seen
module.rehearse = rehearse
path.rename(path.with_name("first"))
tried.rename(path)
found.reload_changed()
print(found.models()[0].bundle.manifest["created"])
"""


def unrehearsed_bundle(box: Box) -> Outcome:
    """A bundle that is exchanged when the rehearsal of another one has ended."""
    path, tried, never = (
        box.bundle(name, created=f"2026-01-0{day}T00:00:00Z")
        for day, name in enumerate(("m", "tried", "never"), 1)
    )
    ended = box.run(_EXCHANGE, path, tried, never, seconds=90)
    if ended.code != 0:
        raise RuntimeError(ended.last)
    loaded = {"1": "the first", "2": "the rehearsed one", "3": "the one that never was rehearsed"}
    day = ended.out.strip().splitlines()[-1][9]
    return Outcome(day == "3", f"{loaded[day]} is loaded")


def upgrade(box: Box) -> Outcome:
    """A good request that offers an upgrade, as curl --http2 and Java's client send it."""
    with _serving(box) as server:
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        found = server.infer(offer)
    return Outcome(b"200" not in found, found.decode())


def surrogate(box: Box) -> Outcome:
    """A JSON key that is half a surrogate pair."""
    with _serving(box) as server:
        found = server.infer(body=_BODY[:-1] + b', "\\ud800": 1}')
    return Outcome(b" 500" in found, found.decode())


def _slow_model() -> bytes:
    """A second or so for 64 windows."""
    size, layers = 2048, 30
    nodes = [
        helper.make_node("ReduceMean", ["window", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "first"], ["x0"]),
        *(helper.make_node("MatMul", [f"x{i}", "square"], [f"x{i + 1}"]) for i in range(layers)),
        helper.make_node("MatMul", [f"x{layers}", "last"], ["scores"]),
    ]
    tensors = [
        constant("axis", [2], np.int64), constant("first", np.zeros((1, size))),
        constant("square", np.eye(size)), constant("last", np.zeros((size, 2))),
    ]  # fmt: skip
    model = model_of(nodes, *tensors)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", 2]))
    return bytes(model.SerializeToString())


def vanished_clients(box: Box) -> Outcome:
    """12 requests of clients that close at once, before one honest request."""
    shape = [64, 1, 8]
    body = json.dumps(
        {"inputs": [{"name": "window", "datatype": "FP32", "shape": shape, "data": [1.0] * 512}]}
    ).encode()
    head = b"POST /v2/models/m/infer HTTP/1.1\r\n" + _HOST + b"Content-Length: %d\r\n\r\n"
    with _serving(box, _slow_model(), "--parallel", 1, "--timeout", 60) as server:
        for _ in range(12):
            with server.connect() as client:
                client.sendall(head % len(body) + body)
                time.sleep(0.05)
        time.sleep(1)
        with server.connect() as client:
            client.settimeout(60)
            client.sendall(head % len(_BODY) + _BODY)
            client.recv(65536)
        with server.connect() as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n")
            text = b""
            while piece := client.recv(65536):
                text += piece
    counts = [line for line in text.decode().splitlines() if line.startswith("edgesparse_requests_total")]
    computed = sum(
        float(line.rsplit(" ", 1)[1]) for line in counts if 'code="200"' in line and "infer" in line
    )
    return Outcome(computed > 6, f"{computed:.0f} of 13 requests are computed and counted as 200")


def descriptors(box: Box) -> Outcome:
    """150 idle connections to a server that may open 100 files: whether health is answered."""
    with _serving(box, None, files=100) as server:
        clients = []
        for _ in range(150):
            try:
                clients.append(server.connect())
            except OSError:
                break
        time.sleep(1)
        found = server.answer(b"GET /v2/health/live HTTP/1.1\r\n" + _HOST + b"\r\n")
        for client in clients:
            client.close()
    return Outcome(b" 200" not in found, found.decode() or "closed without an answer")


def trailer(box: Box) -> Outcome:
    """A good request in chunks, with `Content-Encoding: gzip` behind its body."""
    body = b"%x\r\n%b\r\n0\r\nContent-Encoding: gzip\r\n\r\n" % (len(_BODY), _BODY)
    head = b"POST /v2/models/m/infer HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    with _serving(box) as server:
        found = server.answer(head + body)
    return Outcome(b" 200" not in found, found.decode())


def two_hosts(box: Box) -> Outcome:
    """A request with two Host headers."""
    with _serving(box) as server:
        found = server.infer(host=_HOST + b"Host: 127.0.0.1\r\n")
    return Outcome(b" 200" in found, found.decode())


def log_lines(box: Box) -> Outcome:
    """50 malformed requests: how many lines the log grows by."""
    with _serving(box) as server:
        with open(server.log, encoding="utf-8") as log:
            before = len(log.readlines())
        for _ in range(50):
            server.answer(b"NONSENSE\r\n\r\n")
        time.sleep(1)
        with open(server.log, encoding="utf-8") as log:
            more = len(log.readlines()) - before
    return Outcome(more >= 50, f"{more} lines")


ATTACKS = {
    9: dripping_body,
    10: unread_answers,
    11: unrehearsed_bundle,
    17: upgrade,
    18: surrogate,
    19: vanished_clients,
    20: descriptors,
    29: trailer,
    30: two_hosts,
    31: log_lines,
}
