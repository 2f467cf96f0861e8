"""A server of a bundle that takes text: the embeddings of `Session.embed`, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.test_sentences import TEXTS, assert_near
from tests.edgesparse.dropin.tiny_sentences import BUNDLE, sentences
from tests.support.running import Answer, Running, running

pytest.importorskip("uvicorn", reason="needs pip install 'edgesparse[serve]'")
pytest.importorskip("tokenizers", reason="needs pip install 'edgesparse[text]'")


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Running]:
    with running(f"text={exported / BUNDLE}", "--precision", "float32", "--max-windows", 16) as started:
        yield started


def embed(server: Running, texts: list[str], **more: Any) -> Answer:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return server.ask("POST", "/v2/models/text/infer", json.dumps({"inputs": [tensor], **more}))


def test_embeddings_over_http_are_those_of_the_runner(server: Running, exported: Path) -> None:
    session = Session(exported / BUNDLE, precision="float32", threads=1)
    answer = embed(server, TEXTS, id="a")
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [len(TEXTS), 32])
    assert_near(np.array(output["data"]).reshape(len(TEXTS), 32), session.embed(TEXTS))
    prompted = embed(server, ["pump"], parameters={"prompt": "query"}).json["outputs"][0]["data"]
    assert_near(np.array(prompted)[None], session.embed(["pump"], prompt="query"))


def test_truncation_is_said_in_the_answer(server: Running) -> None:
    assert "truncated" not in embed(server, ["pump"]).json["parameters"]
    long = sentences(1, 120)[0]
    assert embed(server, ["pump", long, long]).json["parameters"]["truncated"] == "1, 2"


def test_the_server_describes_the_model(server: Running) -> None:
    found = server.ask("GET", "/v2/models/text").json
    assert found["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert found["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 32]}]
    assert found["parameters"]["max_tokens"] == 96
    paths = server.ask("GET", "/openapi.json").json["paths"]
    assert "/v2/models/text/explain" not in paths
    body = paths["/v2/models/text/infer"]["post"]["requestBody"]["content"]["application/json"]
    example = body["example"]
    assert server.ask("POST", "/v2/models/text/infer", json.dumps(example)).status == 200


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"shape": [2]}, 422, "`data` must hold 2 texts for shape [2]; got 1."),
        ({"shape": [17]}, 400, "must have shape [1 to 16]"),
        ({"data": "pump"}, 400, "must be a list of texts"),
        ({"data": [1]}, 400, "must be a list of texts"),
        ({"name": "window"}, 400, "The input must be `text` of datatype BYTES"),
        ({"datatype": "FP32"}, 400, "The input must be `text` of datatype BYTES"),
        ({"data": ["a\ud800"]}, 400, "must hold valid Unicode"),
    ],
)
def test_requests_that_do_not_fit_are_refused(
    change: dict[str, Any], status: int, message: str, server: Running
) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["pump"], **change}
    answer = server.ask("POST", "/v2/models/text/infer", json.dumps({"inputs": [tensor]}))
    assert answer.status == status and message in answer.json["error"]


def test_other_refusals(server: Running) -> None:
    answer = embed(server, ["pump"], parameters={"prompt": "passage"})
    assert answer.status == 400 and "the name of a prompt of the model (query" in answer.json["error"]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["pump"]}
    answer = server.ask("POST", "/v2/models/text/explain", json.dumps({"inputs": [tensor]}))
    assert answer.status == 400 and "takes text, which `explain` does not" in answer.json["error"]
