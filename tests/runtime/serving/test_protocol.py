"""The protocol as a plain client meets it: every answer, every refusal."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.engine import find_engine, usual_precision
from edgesparse_runtime.session import Session
from tests.support.running import ROOT, Running
from tests.support.tolerances import ENGINES

NEAR = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
WINDOW = np.random.default_rng(0).standard_normal((2, 2, 300)).astype(np.float32)


def test_health_and_metadata(server: Running) -> None:
    assert server.ask("GET", "/v2/health/live").json == {"live": True}
    assert server.ask("GET", "/v2/health/ready").json == {"ready": True}
    assert server.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data", "explain"]
    answer = server.ask("GET", "/v2/models/pump")
    assert answer.json["versions"] == ["1", "2"]
    assert answer.json["inputs"] == [{"name": "window", "datatype": "FP32", "shape": [-1, 2, -1]}]
    assert answer.json["parameters"]["classes"] == ["fast", "slow"]
    assert answer.json["parameters"]["precision"] == "float32"
    assert answer.headers["edgesparse-version"] == "2"
    faster, _ = usual_precision(find_engine().isa)
    assert server.ask("GET", "/v2/models/pump/versions/1").json["parameters"]["precision"] == faster
    assert server.ask("GET", "/v2/models/pump/versions/1/ready").status == 200


def test_json_and_binary_say_what_the_runner_says(server: Running, session: Session) -> None:
    expected = session.predict(WINDOW)
    answer = server.infer("pump", WINDOW)
    assert answer.status == 200, answer.body
    (scores,) = answer.json["outputs"]
    assert scores["shape"] == [2, 2]
    np.testing.assert_allclose(np.reshape(scores["data"], (2, 2)), expected, **NEAR)
    assert answer.json["parameters"]["bundle_sha256"] == answer.headers["edgesparse-bundle"]

    raw = WINDOW.tobytes()
    head = json.dumps(
        {
            "id": "seven",
            "parameters": {"binary_data_output": True},
            "inputs": [
                {
                    "name": "window",
                    "datatype": "FP32",
                    "shape": [2, 2, 300],
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
        }
    ).encode()
    answer = server.ask(
        "POST",
        "/v2/models/pump/versions/2/infer",
        head + raw,
        {"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["id"] == "seven"
    scores = np.frombuffer(answer.body[length:], "<f4").reshape(2, 2)
    np.testing.assert_allclose(scores, expected, **NEAR)


def test_nested_data_and_missing_values(server: Running, session: Session) -> None:
    window = WINDOW[:1].copy()
    window[0, 1, 40:60] = np.nan
    nested = [[[None if np.isnan(v) else float(v) for v in row] for row in rows] for rows in window]
    answer = server.infer("pump", window, data=nested)
    assert answer.status == 200, answer.body
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], session.predict(window)[0], **NEAR)


def test_explain_gives_the_selection(server: Running, session: Session) -> None:
    tensor = {"name": "window", "datatype": "FP32", "shape": [2, 2, 300], "data": WINDOW.ravel().tolist()}
    answer = server.ask("POST", "/v2/models/pump/explain", json.dumps({"inputs": [tensor]}))
    assert answer.status == 200, answer.body
    outputs = {o["name"]: np.reshape(o["data"], o["shape"]) for o in answer.json["outputs"]}
    for name, expected in zip(session.selection_names, session.selections(WINDOW), strict=True):
        assert (outputs[name] == expected).all()
        assert answer.json["parameters"][f"density.{name}"] == pytest.approx(expected.mean())
    assert answer.json["parameters"]["block_size"] == 8
    page = (ROOT / "docs" / "guides" / "serving.md").read_text()
    for name in answer.json["parameters"].keys() | outputs.keys():
        assert re.sub(r"\.\d+$", ".<layer>", name) + "`" in page, (
            f"docs/guides/serving.md does not explain {name}"
        )


def test_a_wrong_method_is_told_the_right_one(server: Running) -> None:
    for method, path, right in (("GET", "/v2/models/pump/infer", "POST"), ("DELETE", "/v2", "GET and HEAD")):
        answer = server.ask(method, path)
        assert answer.status == 405
        assert answer.json["error"] == f"This path allows {right}, not {method}."


def test_what_is_no_http_is_refused_as_json(server: Running) -> None:
    for text, status, sentence in (
        (b"FOO /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "must be GET or POST"),
        (b"hello\r\n\r\n", 501, "must be GET or POST"),
        (b"GET /v2 HTTP/1.1\r\nA B: 1\r\n\r\n", 400, "must be well-formed HTTP/1.1"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(text)
            head, body = raw.recv(4096).split(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert b"content-type: application/json" in head
        assert sentence in json.loads(body)["error"]


def test_parameters_that_nobody_knows_change_nothing(server: Running) -> None:
    """As docs/guides/serving.md says."""
    plain = server.infer("pump", WINDOW).json
    tensor = {"name": "window", "datatype": "FP32", "shape": [2, 2, 300], "data": WINDOW.ravel().tolist()}
    body = {"inputs": [tensor | {"parameters": {"a": 1}}], "parameters": {"top_p": 7, "timeout": "x"}}
    answer = server.ask("POST", "/v2/models/pump/infer", json.dumps(body))
    assert answer.status == 200
    assert answer.json == plain
    unknown = server.ask("POST", "/v2/models/pump/infer", json.dumps({"inputs": [tensor], "top_p": 7}))
    assert unknown.status == 400
    assert "got top_p" in unknown.json["error"]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("64", '"64", text'),
        (True, "true, a truth value"),
        (64.0, "64.0, not a whole"),
        ([64], "[64], a list"),
    ],
)
def test_a_size_that_is_no_number_is_named(server: Running, size: object, said: str) -> None:
    tensor = {
        "name": "window",
        "datatype": "FP32",
        "shape": [1, 2, 8],
        "parameters": {"binary_data_size": size},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = server.ask(
        "POST",
        "/v2/models/pump/infer",
        head + b"\0" * 64,
        {"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.status == 400
    assert f"must be a whole number of bytes; got {said}" in answer.json["error"]


def test_a_dense_model_has_nothing_to_explain(server: Running) -> None:
    answer = server.ask("POST", "/v2/models/dense/explain", "{}")
    assert answer.status == 400
    assert "is dense; it has no selection" in answer.json["error"]


GOOD = {"name": "window", "datatype": "FP32", "shape": [1, 2, 10], "data": [0.0] * 20}
REFUSED: list[tuple[int, dict[str, Any], str]] = [
    (400, {"name": "signal"}, "name must be `window`; got signal"),
    (400, {"datatype": "FP64"}, "datatype FP32; got FP64"),
    (400, {"shape": [1, 3, 10]}, "must have shape [1 to 8, 2,"),
    (400, {"shape": [1, 20]}, "must have shape"),
    (400, {"shape": [9, 2, 10]}, "must have shape"),
    (400, {"shape": [1, 2, 2001]}, "to 2000]; got [1, 2, 2001]"),
    (400, {"shape": [1, 2, 0]}, "must have shape"),
    (400, {"shape": [1, 2, -10]}, "must have shape"),
    (400, {"shape": [True, 2, 10]}, "must have shape"),
    (400, {"shape": [1, 2, 10**30]}, "must have shape"),
    (400, {"shape": "all"}, "must have shape"),
    (422, {"data": [0.0] * 19}, "must hold 20 numbers"),
    (422, {"data": [[[0.0] * 10] * 3]}, "nested like `shape`"),
    (400, {"data": ["0"] * 20}, "must hold numbers"),
    (400, {"data": [True] * 20}, "must hold numbers"),
    (400, {"data": [[0.0] * 20, 1]}, "nested"),
    (400, {"data": None}, "must be a list"),
    (400, {"data": [1e300] * 20}, "must be finite"),
    (400, {"data": [10**400] * 20}, "fit 32-bit"),
    (400, {"data": [float("inf")] * 20}, "must be finite"),
    (422, {"parameters": {"binary_data_size": 80}, "data": ...}, "must be 80 for shape"),
    (400, {"parameters": {"binary_data_size": 80}}, "not both"),
    (400, {"parameters": []}, "must be a JSON object"),
    (400, {"extra": 1}, "only; got extra"),
]


@pytest.mark.parametrize(("status", "change", "message"), REFUSED, ids=[m for _, _, m in REFUSED])
def test_what_does_not_fit_is_refused(
    server: Running, status: int, change: dict[str, Any], message: str
) -> None:
    tensor = {key: value for key, value in (GOOD | change).items() if value is not ...}
    if message == "nested":
        tensor["data"] = [[[0.0] * 10, 1]]
    answer = server.ask("POST", "/v2/models/pump/infer", json.dumps({"inputs": [tensor]}))
    assert (answer.status, message in answer.json["error"]) == (status, True), answer.body


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "message"),
    [
        ("/v2/models/nope/infer", "{}", {}, 404, "no model 'nope'"),
        ("/v2/models/pump/versions/3/infer", "{}", {}, 404, "no version '3'; it has 1, 2"),
        ("/v2/models/pump/infer", "", {}, 400, "must be JSON"),
        ("/v2/models/pump/infer", "[" * 100_000, {}, 400, "not nested so deeply"),
        ("/v2/models/pump/infer", b"\xff\xfe\xfa", {}, 400, "must be JSON"),
        ("/v2/models/pump/infer", "[]", {}, 400, "must be a JSON object"),
        ("/v2/models/pump/infer", '{"inputs": []}', {}, 400, "list of one tensor"),
        (
            "/v2/models/pump/infer",
            "{}",
            {"Inference-Header-Content-Length": "3"},
            400,
            "at most the body's 2",
        ),
        ("/v2/models/pump/infer", "{}", {"Inference-Header-Content-Length": "-1"}, 400, "number of bytes"),
        ("/v2/models/pump/infer", "{}", {"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
        ("/v2/models/pump/infer", b"0" * ((1 << 20) + 1), {}, 413, "at most 1048576 bytes"),
        ("/v2/nothing", "", {}, 404, "No such path"),
    ],
)
def test_bad_requests_get_one_sentence(
    server: Running, path: str, body: bytes | str, headers: dict[str, str], status: int, message: str
) -> None:
    answer = server.ask("POST", path, body, headers)
    assert (answer.status, message in answer.json["error"]) == (status, True), answer.body
    assert list(answer.json) == ["error"]


def test_chunks_count_too(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v2/models/pump/infer", iter([b"0" * 700_000] * 2), encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    connection.close()


def test_the_wrong_method_names_the_right_one(server: Running) -> None:
    answer = server.ask("GET", "/v2/models/pump/infer")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_metrics_and_pages(server: Running, shared_bundle: Bundle) -> None:
    server.infer("pump", WINDOW)
    text = server.ask("GET", "/metrics").body.decode()
    assert 'edgesparse_requests_total{code="200",model="pump",operation="infer",version="2"}' in text
    assert 'edgesparse_model_info{bundle_sha256="' in text
    assert "edgesparse_requests_in_flight 0.0" in text
    assert "process_resident_memory_bytes" in text
    page = server.ask("GET", "/docs").body.decode()
    assert "/v2/models/pump/infer" in page
    assert "<script" not in page and "http" not in page
    assert "/v2/models/dense/explain" not in server.ask("GET", "/openapi.json").json["paths"]


def test_a_dead_sensor_is_said_in_the_answer(server: Running) -> None:
    window = np.random.default_rng(1).standard_normal((3, 2, 200)).astype(np.float32)
    assert "faults" not in server.infer("pump", window).json["parameters"]
    window[1, 0] = 2.5
    window[2, 1, :150] = np.nan
    parameters = server.infer("pump", window).json["parameters"]
    assert "1: current: flat" in parameters["faults"] and "2: voltage: missing" in parameters["faults"]
    text = server.ask("GET", "/metrics").body.decode()
    assert 'edgesparse_faulty_requests_total{model="pump",version="2"} 1.0' in text
