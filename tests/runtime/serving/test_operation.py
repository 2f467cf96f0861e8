"""A server over its life: reload, overload, slow clients, secrets, shutdown."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.serving.addresses import Address, parse_addresses
from edgesparse_runtime.serving.registry import Registry, check_same_interface
from edgesparse_runtime.serving.served_model import load
from edgesparse_runtime.serving.settings import Settings
from tests.support.running import Answer, Running, running

WINDOW = np.random.default_rng(2).standard_normal((1, 2, 300)).astype(np.float32)


def wait_for(holds: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def whole(server: Running, head: bytes) -> bytes:
    """The answer to a request without a body that is sent in one write."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(head + b"\r\nHost: localhost\r\n\r\n")
        return raw.recv(4096)


def bundle_of(server: Running) -> str:
    answer = server.infer("pump", WINDOW)
    assert answer.status == 200, answer.body
    return answer.headers["edgesparse-bundle"]


def test_a_new_bundle_takes_over_and_a_damaged_one_does_not(tmp_path: Path, float_bundle: Bundle) -> None:
    path = tmp_path / "pump.edgesparse"
    shutil.copytree(float_bundle.path, path)
    with running(path, "--reload-every", 0.1) as server:
        first = bundle_of(server)
        rewrite_bundle(open_bundle(path), {"card.md": b"second"}, {})
        wait_for(lambda: bundle_of(server) != first)
        second = bundle_of(server)
        assert server.event("reloaded") is not None

        model = path / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1])
        wait_for(lambda: server.event("reload refused"))
        refused = server.event("reload refused")
        assert refused is not None
        assert "model.onnx does not match its hash" in refused["reason"]
        assert bundle_of(server) == second
        # Said once, however often the server looks.
        time.sleep(0.6)
        assert sum(e["event"] == "reload refused" for e in server.events) == 1

        shutil.rmtree(path)
        wait_for(lambda: sum(e["event"] == "reload refused" for e in server.events) == 2)
        assert bundle_of(server) == second
        shutil.copytree(float_bundle.path, path)
        wait_for(lambda: bundle_of(server) == first)
        text = server.ask("GET", "/metrics").body.decode()
        assert 'edgesparse_reloads_total{model="pump",outcome="refused",version="1"} 2.0' in text


def test_a_model_that_answers_otherwise_is_not_let_in(tmp_path: Path, float_bundle: Bundle) -> None:
    path = tmp_path / "pump.edgesparse"
    shutil.copytree(float_bundle.path, path)
    with running(path, "--reload-every", 0.1) as server:
        first = bundle_of(server)
        golden = float_bundle.golden()
        golden["scores_float32"] = golden["scores_float32"][:, ::-1]
        np.savez(tmp_path / "golden.npz", **golden)  # type: ignore[arg-type]
        rewrite_bundle(open_bundle(path), {"golden.npz": (tmp_path / "golden.npz").read_bytes()}, {})
        wait_for(lambda: server.event("reload refused"))
        refused = server.event("reload refused")
        assert refused is not None
        assert "must reproduce its golden scores on this machine; float32 scores" in refused["reason"]
        assert bundle_of(server) == first


@pytest.mark.parametrize("field", ["classes", "channels", "task"])
def test_a_model_of_something_else_is_not_let_in(tmp_path: Path, float_bundle: Bundle, field: str) -> None:
    """Sound in itself, but clients of the old one would misread it: `slow` is no `fast`."""
    path = tmp_path / "pump.edgesparse"
    shutil.copytree(float_bundle.path, path)
    manifest = float_bundle.manifest
    other = {"task": "regression", "classes": []} if field == "task" else {field: manifest[field][::-1]}
    settings = Settings(rehearse=False)
    outcomes: list[str] = []
    registry = Registry(
        [Address("pump", "1", path)], settings, lambda place, outcome, model: outcomes.append(outcome)
    )
    before = registry.models()
    rewrite_bundle(open_bundle(path), {"card.md": b"the same"}, other)
    assert not registry.reload_changed()
    assert (registry.models(), outcomes) == (before, ["refused"])
    with pytest.raises(BundleError, match=f"must have the {field} of the model in place"):
        check_same_interface(before[0], load(Address("pump", "1", path), settings))
    rewrite_bundle(open_bundle(path), {"card.md": b"again"}, {k: manifest[k] for k in other})
    assert registry.reload_changed()
    assert outcomes == ["refused", "loaded"]


def test_a_reload_of_another_model_is_logged_and_counted(tmp_path: Path, float_bundle: Bundle) -> None:
    path = tmp_path / "pump.edgesparse"
    shutil.copytree(float_bundle.path, path)
    with running(path, "--reload-every", 0.1) as server:
        first = bundle_of(server)
        rewrite_bundle(open_bundle(path), {}, {"classes": ["slow", "fast"]})
        wait_for(lambda: server.event("reload refused"))
        refused = server.event("reload refused")
        assert refused is not None
        assert "the classes of the model in place (fast, slow); got slow, fast" in refused["reason"]
        assert (bundle_of(server), server.event("reloaded")) == (first, None)
        text = server.ask("GET", "/metrics").body.decode()
        assert 'edgesparse_reloads_total{model="pump",outcome="refused",version="1"} 1.0' in text


def test_too_many_connections_are_told_so(float_bundle: Bundle) -> None:
    with running(float_bundle.path, "--connections", 2) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        wait_for(lambda: server.ask("GET", "/v2").status == 503)
        answer = server.infer("pump", WINDOW)
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (
            503,
            "1",
            "close",
        )
        assert "More connections are open" in answer.json["error"]
        assert server.ask("GET", "/v2/health/live").status == 200
        assert server.ask("GET", "/v2/health/ready").status == 200
        for connection in idle:
            connection.close()
        wait_for(lambda: server.infer("pump", WINDOW).status == 200)


def test_shutdown_finishes_what_it_took(float_bundle: Bundle) -> None:
    # A long wait for companions keeps the requests in the house while the signal comes.
    with running(float_bundle.path, "--batch-wait", 1500, "--max-batch", 64) as server:
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(server.infer("pump", WINDOW))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: b"requests_in_flight 8.0" in server.ask("GET", "/metrics").body)
        assert server.end() == 0
        for thread in threads:
            thread.join()
        assert [a.status for a in answers] == [200] * 8
        assert server.event("shutting down") is not None


def test_a_full_queue_says_when_to_come_again(float_bundle: Bundle) -> None:
    with running(float_bundle.path, "--batch-wait", 1500, "--max-batch", 64, "--queue", 2) as server:
        threads = [threading.Thread(target=lambda: server.infer("pump", WINDOW)) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: b"requests_in_flight 2.0" in server.ask("GET", "/metrics").body)
        answer = server.infer("pump", WINDOW)
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "queue of 2 requests is full" in answer.json["error"]
        for thread in threads:
            thread.join()
        assert server.infer("pump", WINDOW).status == 200


def test_slow_clients_and_slow_answers_are_cut_off(float_bundle: Bundle) -> None:
    with running(float_bundle.path, "--timeout", 0.5, "--batch-wait", 5000, "--max-batch", 64) as server:
        answer = server.infer("pump", WINDOW)
        assert (answer.status, "answered within 0.5 s" in answer.json["error"]) == (504, True)
        head = b"POST /v2/models/pump/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(head)
            assert b"408 Request Timeout" in slow.recv(4096)
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\n")
            silent.settimeout(5)
            assert silent.recv(4096) == b""
        with socket.create_connection(("127.0.0.1", server.port)) as endless:
            endless.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000)
            assert b"must be at most 16384 bytes" in endless.recv(4096)
        # A whole head in one write is no shorter for it, in one header, in many, or in the path.
        for head in (b"GET /v2 HTTP/1.1\r\nX: " + b"y" * 20_000, b"GET /" + b"y" * 20_000 + b" HTTP/1.1"):
            assert b" 431 " in whole(server, head)
        many = b"GET /v2 HTTP/1.1\r\n" + b"\r\n".join(b"X%d: yyyyyyyy" % i for i in range(1500))
        assert b"must be at most 16384 bytes" in whole(server, many)
        assert b" 200 OK" in whole(server, b"GET /v2 HTTP/1.1\r\nX: " + b"y" * 16_000)
        assert b"requests_in_flight 0.0" in server.ask("GET", "/metrics").body


def test_different_lengths_are_not_mixed(float_bundle: Bundle, session: object) -> None:
    from edgesparse_runtime.session import Session

    assert isinstance(session, Session)
    rng = np.random.default_rng(3)
    windows = [rng.standard_normal((1, 2, 200 + 50 * (i % 4))).astype(np.float32) for i in range(24)]
    expected = [session.predict(w)[0] for w in windows]
    with running(float_bundle.path, "--batch-wait", 20) as server:
        found: dict[int, Answer] = {}

        def ask(i: int) -> None:
            found[i] = server.infer("pump", windows[i])

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(windows))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, scores in enumerate(expected):
            np.testing.assert_allclose(found[i].json["outputs"][0]["data"], scores, rtol=1e-4, atol=1e-5)
        runs = server.ask("GET", "/metrics").body.decode()
        count = next(x for x in runs.splitlines() if x.startswith("edgesparse_run_windows_count"))
        assert float(count.split()[-1]) < len(windows), "no two windows shared a run"


def test_a_token_is_asked_for(tmp_path: Path, float_bundle: Bundle) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    with running(float_bundle.path, "--token-file", token) as server:
        assert server.ask("GET", "/v2/health/ready").status == 200
        for headers in ({}, {"Authorization": "Bearer 0123456789abcdef0123456789abcdeX"}):
            answer = server.ask("GET", "/metrics", headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        good = {"Authorization": "Bearer 0123456789abcdef0123456789abcdef"}
        assert server.ask("GET", "/v2/models/pump", headers=good).status == 200
        body = json.dumps({"inputs": []})
        assert server.ask("POST", "/v2/models/pump/infer", body, good).status == 400
        assert server.ask("POST", "/v2/models/pump/infer", body).status == 401


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Origin": "http://evil.example"}],
)
def test_web_pages_of_others_do_not_get_through(server: Running, headers: dict[str, str]) -> None:
    assert server.ask("GET", "/v2", headers=headers).status == 403


@pytest.mark.parametrize(
    "headers", [{"Host": "localhost"}, {"Host": "[::1]:8000"}, {"Origin": "http://127.0.0.1:3000"}]
)
def test_this_machine_does(server: Running, headers: dict[str, str]) -> None:
    assert server.ask("GET", "/v2", headers=headers).status == 200


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must come with `--token-file` or `--tls-cert`"):
        Settings(host="0.0.0.0")
    for host in ("127.0.0.1", "::1", "localhost"):
        assert Settings(host=host).is_loopback
    with pytest.raises(InputError, match="given together"):
        Settings(tls_cert=tmp_path / "cert.pem")
    with pytest.raises(InputError, match="`queue` must be at least 1; got 0"):
        Settings(queue=0)
    short = tmp_path / "token"
    short.write_text("secret")
    with pytest.raises(InputError, match="must hold one ASCII token of 16"):
        Settings(token_file=short).token()
    short.write_text("0123456789abcdef")
    short.chmod(0o666)
    with pytest.raises(InputError, match="must not be writable by everyone"):
        Settings(token_file=short).token()


def test_places() -> None:
    assert parse_addresses(["a/pump.edgesparse", "pump:2=b/x.edgesparse", "x=/c=d"]) == [
        Address("pump", "1", Path("a/pump.edgesparse")),
        Address("pump", "2", Path("b/x.edgesparse")),
        Address("x", "1", Path("/c=d")),
    ]
    for argument in (
        "a b=tiny.edgesparse",
        "tiny:0=tiny.edgesparse",
        "tiny:x=tiny.edgesparse",
        ".t=t.edgesparse",
    ):
        with pytest.raises(InputError, match=r"NAME must be 1 to 64 letters.* VERSION a whole number from 1"):
            parse_addresses([argument])
    with pytest.raises(InputError, match="is given twice"):
        parse_addresses(["pump.edgesparse", "old/pump.edgesparse"])
