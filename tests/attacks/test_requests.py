"""Hostile requests: the parser alone under mutation, and a real server under raw bytes."""

from __future__ import annotations

import json
import random
import socket
import time

import numpy as np
import pytest

from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.requests import read_request
from edgesparse_runtime.serving.protocol.tensors import WindowBounds
from tests.support.running import Running

BOUNDS = WindowBounds(channels=1, min_steps=1, max_steps=64, most_windows=4)


def seeds() -> list[tuple[bytes, str | None]]:
    """A JSON and a binary request that are good."""
    tensor = {"name": "window", "datatype": "FP32", "shape": [1, 1, 4]}
    plain = {"id": "a", "inputs": [tensor | {"data": [0.5, None, -1e3, 2]}], "outputs": [{"name": "scores"}]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 16}}]}).encode()
    return [(json.dumps(plain).encode(), None), (head + np.arange(4, dtype="<f4").tobytes(), str(len(head)))]


def test_mutated_requests_end_in_an_array_or_a_sentence() -> None:
    draw = random.Random(2)
    good = 0
    refused: set[int] = set()
    for i in range(20_000):
        body, header = seeds()[i % 2]
        content = bytearray(body)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.choice(b'0123456789[]{}",.:-eEnaN \x00\xff')
        start = time.perf_counter()
        try:
            window = read_request(bytes(content), header, BOUNDS, ("scores",)).window
            assert window.dtype == np.float32 and window.size <= 4 * 64
            good += 1
        except Refusal as refusal:
            refused.add(refusal.status)
        assert time.perf_counter() - start < 1
    assert good
    assert refused == {400, 422}


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content Length: 2\r\n",
        b"X: a\rb\r\n",
    ],
)
def test_requests_that_two_parsers_read_differently_are_refused(server: Running, head: bytes) -> None:
    """What a proxy in front might take for one request and we for two."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(
            b"POST /v2/models/pump/infer HTTP/1.1\r\nHost: localhost\r\n"
            + head
            + b"\r\n{}GET / HTTP/1.1\r\n\r\n"
        )
        answer = raw.recv(65536)
        assert answer.split()[1] in (b"400", b"413"), answer
        # Whatever follows on this connection is not answered.
        raw.settimeout(3)
        rest = answer
        while chunk := raw.recv(65536):
            rest += chunk
        assert rest.count(b"HTTP/1.1 ") == 1, rest
    assert server.ask("GET", "/v2/health/live").status == 200


def test_noise_does_no_harm(server: Running) -> None:
    draw = random.Random(3)
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(draw.randbytes(draw.randint(1, 2000)))
    assert server.ask("GET", "/v2/health/live").status == 200


def test_a_client_that_hangs_up_leaves_nothing_behind(server: Running) -> None:
    head = b"POST /v2/models/pump/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(head)
    end = time.monotonic() + 5
    while b"requests_in_flight 0.0" not in server.ask("GET", "/metrics").body:
        assert time.monotonic() < end, "a request of a client that is gone keeps its place"
        time.sleep(0.05)
