"""Hostile requests: the parser alone under mutation, and a real server under raw bytes."""

from __future__ import annotations

import json
import logging
import random
import socket
import time

import numpy as np
import pytest

from edgesparse_runtime.serving.http.auth import AccessControl
from edgesparse_runtime.serving.log import PER_MINUTE, EventHandler
from edgesparse_runtime.serving.protocol.answers import write_answer
from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.requests import InferRequest, read_request
from edgesparse_runtime.serving.protocol.tensors import WindowBounds
from tests.support.running import Running

BOUNDS = WindowBounds(channels=1, min_steps=1, max_steps=64, most_windows=4)


def seeds() -> list[tuple[bytes, str | None]]:
    """A JSON and a binary request that are good."""
    tensor = {"name": "window", "datatype": "FP32", "shape": [1, 1, 4]}
    plain = {"id": "a", "inputs": [tensor | {"data": [0.5, None, -1e3, 2]}], "outputs": [{"name": "scores"}]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 16}}]}).encode()
    return [(json.dumps(plain).encode(), None), (head + np.arange(4, dtype="<f4").tobytes(), str(len(head)))]


@pytest.mark.timeout(120)
def test_mutated_requests_end_in_an_array_or_a_sentence() -> None:
    draw = random.Random(2)
    good = 0
    refused: set[int] = set()
    for i in range(20_000):
        body, header = seeds()[i % 2]
        content = bytearray(body)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.choice(b'0123456789[]{}",.:-eEnaN \x00\xff')
        try:
            window = read_request(bytes(content), header, BOUNDS, ("scores",)).window
            assert window.dtype == np.float32 and window.size <= 4 * 64
            good += 1
        except Refusal as refusal:
            refused.add(refusal.status)
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


GOOD = json.dumps(
    {"inputs": [{"name": "window", "datatype": "FP32", "shape": [1, 2, 16], "data": [0.1] * 32}]}
).encode()


def send(server: Running, data: bytes) -> bytes:
    """What comes back until the server closes its side, or three seconds pass."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=3) as raw:
        raw.sendall(data)
        answer = b""
        while True:
            try:
                chunk = raw.recv(65536)
            except OSError:
                return answer
            if not chunk:
                return answer
            answer += chunk


def post(body: bytes, headers: bytes = b"", path: bytes = b"/v2/models/pump/infer") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + length + b"\r\n" + body


LAST = b"Connection: close\r\n"


@pytest.mark.parametrize(
    "offer",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Connection: upgrade\r\nUpgrade: foo/2\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
    ],
)
def test_an_offer_to_upgrade_is_ignored(server: Running, offer: bytes) -> None:
    """curl --http2 and Java's HttpClient make one with every request (RFC 9110, 7.8)."""
    answer = send(server, post(GOOD, offer) + post(GOOD, LAST))
    assert answer.count(b"HTTP/1.1 200 ") == 2, answer
    # Where the body comes in another packet, too.
    head, _, body = post(GOOD, offer).partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        for part in (head, b"\r\n\r\n", body[:5], body[5:]):
            raw.sendall(part)
            time.sleep(0.05)
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_tunnel_is_refused(server: Running) -> None:
    answer = send(server, b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 501 ") and answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "trailer", [b"Content-Encoding: gzip", b"Inference-Header-Content-Length: 1", b"Host: evil.example"]
)
def test_trailers_are_no_headers(server: Running, trailer: bytes) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(GOOD), GOOD, trailer)
    head = b"POST /v2/models/pump/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    assert send(server, head + LAST + b"\r\n" + chunks).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "change",
    [
        {"\ud800": 1},
        {"id": "\ud800"},
        {"outputs": [{"name": "\udfff"}]},
        {"parameters": {"a": ["\ud800"]}},
        {"inputs": [{"name": "\ud800", "datatype": "FP32", "shape": [1, 2, 16], "data": []}]},
        {"inputs": [{"name": "window", "datatype": "\udfff", "shape": [1, 2, 16], "data": []}]},
        {"inputs": [{"name": "window", "datatype": "FP32", "shape": "\ud800", "data": []}]},
    ],
)
def test_half_a_surrogate_pair_is_a_bad_request(server: Running, change: dict[str, object]) -> None:
    body = json.dumps(json.loads(GOOD) | change).encode()
    for content in (body, body.replace(b"\\ud800", b"\xed\xa0\x80")):
        answer = server.ask("POST", "/v2/models/pump/infer", content)
        assert answer.status == 400, answer.body
        assert list(answer.json) == ["error"]


def test_whole_characters_come_back(server: Running) -> None:
    body = json.dumps(json.loads(GOOD) | {"id": "\U0001f600 \u202e"}).encode()
    assert server.ask("POST", "/v2/models/pump/infer", body).json["id"] == "\U0001f600 \u202e"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_the_host_is_named_once(server: Running, head: bytes) -> None:
    answer = send(server, head)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_malformed_requests_do_not_fill_the_log(server: Running) -> None:
    before = len(server.events)
    for data in (b"\x16\x03\x01\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", post(b"{"), b"A" * 20_000):
        for _ in range(25):
            send_only(server, data)
    assert server.ask("GET", "/v2").status == 200
    assert len(server.events) - before < 20, server.events[-3:]
    text = server.ask("GET", "/metrics").body.decode()
    assert 'edgesparse_requests_total{code="400",model="",operation="other",version=""}' in text


def send_only(server: Running, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(data)
        raw.recv(1)


def test_one_statement_of_a_library_logs_a_few_lines_per_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    handler = EventHandler(clock=lambda: now[0])
    record = logging.makeLogRecord({"name": "uvicorn.error", "msg": "bad", "pathname": "x.py", "lineno": 1})
    for _ in range(1_000):
        handler.emit(record)
    assert len(capsys.readouterr().err.splitlines()) == PER_MINUTE
    now[0] = 61.0
    handler.emit(record)
    assert json.loads(capsys.readouterr().err)["left_out"] == 1_000 - PER_MINUTE


def test_an_answer_is_made_in_pieces_and_holds_its_arrays_only() -> None:
    """A megabyte of request explains itself in a hundred megabytes of JSON."""
    blocks = np.random.default_rng(0).random((1, 4, 1_500, 1_500)) < 0.5
    outputs = {"scores": np.array([[0.5, np.nan]], np.float32), "selection.0": blocks}
    request = InferRequest(np.zeros((1, 1, 4), np.float32), "a", {}, False, ())
    answer = write_answer(request, "pump", "1", {"bundle_sha256": "0"}, outputs)
    assert answer.held < blocks.nbytes + 10_000
    sizes = [len(piece) for piece in answer.pieces()]
    assert sum(sizes) == answer.length > 5 * blocks.nbytes
    assert max(sizes) < 1 << 20
    read = json.loads(answer.content())
    assert read["outputs"][0]["data"] == [0.5, None]
    np.testing.assert_array_equal(np.reshape(read["outputs"][1]["data"], blocks.shape), blocks)
    raw = write_answer(
        InferRequest(request.window, None, {}, True, ()), "pump", "1", {"bundle_sha256": "0"}, outputs
    )
    content = raw.content()
    assert raw.head_length is not None and raw.length == len(content)
    assert content[raw.head_length + 8 :] == blocks.tobytes()


def test_an_answer_of_another_type_is_not_sent_as_fp32() -> None:
    request = InferRequest(np.zeros((1, 1, 4), np.float32), None, {}, True, ())
    for dtype in (np.float64, np.float16, np.int64):
        with pytest.raises(KeyError):
            write_answer(request, "pump", "1", {}, {"scores": np.zeros((1, 2), dtype)})


@pytest.mark.parametrize(
    "name",
    [
        *(
            "evil.example@localhost",
            "localhost@evil.example",
            "evil.example\\@localhost",
            "localhost/evil.example",
        ),
        *("localhost#evil.example", "localhost?evil.example", "local\thost", "localhost:80@evil.example"),
        *("[::1%25evil]", "[::1]evil.example", "::1", "", "localhost:123456", "localhost\u212a"),
    ],
)
def test_a_host_that_two_readers_take_for_different_ones_is_refused(name: str) -> None:
    """In `Host` and in `Origin`."""
    access = AccessControl(None, [])
    access.check("/v2", {"host": "LOCALHOST:8000", "origin": "http://[::1]:3000"})
    with pytest.raises(Refusal, match="Host"):
        access.check("/v2", {"host": name})
    with pytest.raises(Refusal, match="web pages"):
        access.check("/v2", {"host": "localhost", "origin": f"http://{name}"})
