"""Clients that send slowly, do not read, vanish or crowd: the others are served, and memory stays bounded."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from tests.support.running import Running, running

HOST = b"Host: localhost\r\n"
INFER = b"/v2/models/pump/infer"
EXPLAIN = b"/v2/models/pump/explain"
TIMEOUT = 2.0
# What a busy machine may add.
SLACK = 4.0


@pytest.fixture(scope="module")
def hurried(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a token and a short deadline."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("a" * 32)
    token.chmod(0o600)
    arguments = (f"pump={shared_bundle.path}", "--timeout", TIMEOUT, "--token-file", token)
    with running(*arguments, "--parallel", 1, "--precision", "float32") as server:
        yield server


TOKEN = b"Authorization: Bearer " + b"a" * 32 + b"\r\n"


def connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def post(path: bytes, windows: int, steps: int, headers: bytes = TOKEN) -> bytes:
    """A binary request of zeros."""
    size = 4 * windows * 2 * steps
    tensor = {"name": "window", "datatype": "FP32", "shape": [windows, 2, steps]}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}).encode()
    lengths = b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n" % (len(head), len(head) + size)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + headers + lengths + b"\r\n" + head + bytes(size)


def seconds_until_closed(server: Running, head: bytes, drip: bytes, most: float) -> float:
    """How long the server keeps a connection that sends `head`, then `drip` ten times per second."""
    with connect(server) as client:
        began = time.monotonic()
        client.sendall(head)
        while (spent := time.monotonic() - began) < most:
            try:
                # The server may have closed its side; it reads no more once it has closed the other.
                if select.select([client], [], [], 0)[0]:
                    client.recv(65536)
                client.sendall(drip)
                time.sleep(0.1)
            except OSError:
                return spent
        return most


SLOW = {
    "nothing": (b"", b"\r\n"),
    "line ends before a request": (b"\r\n", b"\r\n"),
    "a head": (b"GET /v2 HTTP/1.1\r\nX: ", b"a"),
    "a body without a token": (
        b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 99999\r\n\r\n",
        b" ",
    ),
    "chunks without a token": (
        b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
        b"1\r\n \r\n",
    ),
    "a body": (
        b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: 99999\r\n\r\n",
        b" ",
    ),
    "a body to no path": (b"POST /x HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: 99999\r\n\r\n", b" "),
    "a body to a health check": (
        b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"Content-Length: 99999\r\n\r\n",
        b" ",
    ),
    "a body that is too large": (
        b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: 999999999\r\n\r\n",
        b" ",
    ),
    "trailers": (
        b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + TOKEN + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        b"a",
    ),
    "a second request": (
        b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\nGET /v2/health/live HTTP/1.1\r\nX: ",
        b"a",
    ),
    "a body after an offer to upgrade": (
        b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 99999\r\n\r\n",
        b" ",
    ),
}


@pytest.fixture(scope="module")
def seconds_kept(hurried: Running) -> dict[str, float]:
    """How long each slow client was kept; all of them come at once."""
    most = TIMEOUT + SLACK + 4
    with ThreadPoolExecutor(len(SLOW)) as pool:
        asked = {what: pool.submit(seconds_until_closed, hurried, *SLOW[what], most) for what in SLOW}
        return {what: future.result() for what, future in asked.items()}


@pytest.mark.parametrize("what", SLOW)
def test_a_client_that_sends_slowly_is_cut_off_at_the_deadline(
    seconds_kept: dict[str, float], what: str
) -> None:
    assert seconds_kept[what] < TIMEOUT + SLACK


def ask(server: Running, path: str = "/v2") -> int:
    """The status of a request of an honest client; 0 when it gets none."""
    try:
        return server.ask("GET", path, headers={"Authorization": "Bearer " + "a" * 32}).status
    except OSError:
        return 0


def test_honest_clients_are_answered_while_slow_ones_crowd(shared_bundle: Bundle, tmp_path: Path) -> None:
    with running(f"pump={shared_bundle.path}", "--timeout", 10, "--connections", 20) as server:
        head = b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        crowd = [connect(server) for _ in range(60)]
        for client in crowd:
            with contextlib.suppress(OSError):
                client.sendall(head)
        # Whoever kept the server waiting for a second makes room.
        statuses = []
        until = time.monotonic() + 6
        while time.monotonic() < until:
            for client in crowd:
                with contextlib.suppress(OSError):
                    client.sendall(b"1\r\n \r\n")
            statuses.append(ask(server))
            assert ask(server, "/v2/health/live") == 200
            time.sleep(0.05)
        good = statuses[len(statuses) // 4 :]
        assert good.count(200) >= 0.95 * len(good), statuses
        for client in crowd:
            client.close()


def test_bodies_that_are_only_announced_take_no_memory_from_others(hurried: Running) -> None:
    head = b"POST " + INFER + b" HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: 16777216\r\n\r\n"
    crowd = [connect(hurried) for _ in range(300)]
    for client in crowd:
        client.sendall(head)
    window = post(INFER, 1, 64, TOKEN + b"Connection: close\r\n")
    with connect(hurried) as client:
        client.sendall(window)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    for client in crowd:
        client.close()


def resident(server: Running) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) << 10


def metric(server: Running, name: str) -> float:
    headers = {"Authorization": "Bearer " + "a" * 32}
    lines = server.ask("GET", "/metrics", headers=headers).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_an_unread_answer_counts_until_the_deadline_and_is_cut_off(shared_bundle: Bundle) -> None:
    # Some megabytes of blocks, more than the system's buffers hold.
    request = post(EXPLAIN, 2, 32_000, b"")
    deadline = 6.0
    arguments = (f"pump={shared_bundle.path}", "--timeout", deadline, "--precision", "float32")
    with running(*arguments) as server, connect(server) as client:
        began = time.monotonic()
        client.sendall(request)
        while metric(server, "edgesparse_bytes_in_flight") <= len(request):
            assert time.monotonic() - began < deadline, "an unread answer is not counted"
            time.sleep(0.02)
        assert metric(server, "edgesparse_requests_in_flight") == 1
        while metric(server, "edgesparse_requests_in_flight"):
            assert time.monotonic() - began < deadline + SLACK, "an unread answer is held for ever"
            time.sleep(0.1)
        assert metric(server, "edgesparse_bytes_in_flight") == 0
        assert metric(server, 'edgesparse_connections_cut_total{reason="deadline"}') == 1


def test_work_of_clients_that_vanish_is_dropped(hurried: Running) -> None:
    before = metric(hurried, 'edgesparse_requests_total{code="200"')
    for path in (INFER, EXPLAIN):
        for _ in range(30):
            with connect(hurried) as client:
                client.sendall(post(path, 8, 8_000))
    began = time.monotonic()
    with connect(hurried) as client:
        client.sendall(post(INFER, 1, 64, TOKEN + b"Connection: close\r\n"))
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - began < TIMEOUT + SLACK
    until = time.monotonic() + 10
    while metric(hurried, "edgesparse_requests_in_flight"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert metric(hurried, 'edgesparse_requests_total{code="200"') - before < 30
    assert metric(hurried, 'edgesparse_requests_total{code="499"') > 30
    assert metric(hurried, 'edgesparse_requests_total{code="500"') == 0


def test_an_explanation_that_nobody_waits_for_is_ended(hurried: Running) -> None:
    clients = [connect(hurried) for _ in range(40)]
    for client in clients:
        client.sendall(post(EXPLAIN, 8, 16_000))
    time.sleep(TIMEOUT)
    for client in clients:
        client.close()
    began = time.monotonic()
    status = b""
    while not status.startswith(b"HTTP/1.1 200 "):
        with connect(hurried) as client:
            client.sendall(post(INFER, 1, 64, TOKEN + b"Connection: close\r\n"))
            status = client.recv(65536)
        assert time.monotonic() - began < TIMEOUT + SLACK, status


def test_a_large_request_yields_to_small_ones(shared_bundle: Bundle) -> None:
    with running(f"pump={shared_bundle.path}", "--timeout", 30, "--parallel", 1) as server:
        with ThreadPoolExecutor(4) as pool:
            large = [pool.submit(server.ask, "POST", *body(64, 8_000)) for _ in range(3)]
            time.sleep(0.3)
            small = [server.ask("POST", *body(1, 64)).status for _ in range(10)]
            done = [future.done() for future in large]
            statuses = [future.result().status for future in large]
        assert small == [200] * 10
        assert not all(done), "the large requests were answered first"
        assert set(statuses) <= {200, 504}


def body(windows: int, steps: int) -> tuple[str, bytes, dict[str, str]]:
    head, _, content = post(INFER, windows, steps, b"").partition(b"\r\n\r\n")
    lengths = dict(line.split(": ") for line in head.decode().splitlines()[1:])
    name = "Inference-Header-Content-Length"
    return INFER.decode(), content, {name: lengths[name]}


def test_pipelined_requests_wait_without_being_read(hurried: Running) -> None:
    """A million requests on one connection, none of whose answers is read."""
    before = resident(hurried)
    request = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"
    with connect(hurried) as client:
        client.settimeout(1.0)
        with contextlib.suppress(OSError):
            for _ in range(200):
                client.sendall(request * 5_000)
        assert resident(hurried) - before < 64 << 20
    assert ask(hurried) == 200


def test_health_and_reloads_keep_descriptors(shared_bundle: Bundle) -> None:
    """Fewer descriptors than `--connections` allows."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(f"pump={shared_bundle.path}", "--reload-every", 0.2, descriptors=256) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
        crowd = []
        for _ in range(400):
            client = socket.socket()
            client.settimeout(2)
            with contextlib.suppress(OSError):
                client.connect(("127.0.0.1", server.port))
            crowd.append(client)
        assert [ask(server, "/v2/health/live") for _ in range(20)] == [200] * 20
        open_now = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        assert open_now < 256 - 32, "no descriptor is left for a reload"
        for client in crowd:
            client.close()


def test_windows_of_others_do_not_fail_with_one(shared_bundle: Bundle) -> None:
    """Requests that share a run: one that the model cannot run is refused alone."""
    arguments = (f"pump={shared_bundle.path}", "--precision", "float32", "--batch-wait", 300)
    with running(*arguments, "--max-batch", 8) as server:
        good = np.zeros((1, 2, 64), np.float32)
        bad = np.full((1, 2, 64), np.nan, np.float32)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(server.infer, "pump", bad if i == 3 else good) for i in range(8)]
            statuses = [future.result().status for future in asked]
    assert statuses[:3] + statuses[4:] == [200] * 7


def test_a_handshake_has_the_deadline_of_a_request(shared_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from tests.runtime.serving.test_trust import make_tls_pair

    certificate, key = make_tls_pair(tmp_path)
    arguments = (f"pump={shared_bundle.path}", "--timeout", TIMEOUT, "--tls-cert", certificate)
    with running(*arguments, "--tls-key", key) as server, connect(server) as client:
        began = time.monotonic()
        client.sendall(b"\x16\x03\x01")
        with contextlib.suppress(OSError):
            while client.recv(4096):
                pass
        assert time.monotonic() - began < TIMEOUT + SLACK
