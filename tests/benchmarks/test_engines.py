"""A bundle in other engines: right, or refused aloud. Opt-in: it needs npm, Chromium and 440 MB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from benchmarks.engines import engines
from benchmarks.engines.engines import ENGINES, SERVE
from benchmarks.engines.run import Missing, open_everywhere, open_in
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.session import Session


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_no_engine_is_silently_wrong(shared_bundle: Bundle, name: str) -> None:
    if os.environ.get("EDGESPARSE_LONG") != "1":
        pytest.skip("set EDGESPARSE_LONG=1, or run make engines")
    found = open_everywhere(shared_bundle, (name,))
    if {one.verdict for one in found} == {"left out"}:
        pytest.skip(found[0].detail)
    assert all(one.verdict in ("right", "refused") for one in found), found
    if name.startswith("onnxruntime"):
        assert [one.verdict for one in found] == ["right", "right"], found


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_wrong_answer_is_called_wrong(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    golden = shared_bundle.golden()[f"scores_{precision}"]

    def answer(scores: object) -> str:
        monkeypatch.setitem(engines.ENGINES, "tract", lambda *_: ("tract 0", scores))
        return open_in("tract", shared_bundle, precision, Missing("no npm")).verdict

    assert answer(golden) == "right"
    assert answer(golden[:, ::-1]) == "WRONG" and answer(golden + 0.01) == "WRONG"
    assert answer(golden[:-1]) == "WRONG" and answer(np.full_like(golden, np.nan)) == "WRONG"
    assert open_in("onnxruntime-web", shared_bundle, precision, Missing("no npm")).detail == "no npm"

    def fail(*_: object) -> None:
        raise RuntimeError("no such operator\n\n at line 3")

    monkeypatch.setitem(engines.ENGINES, "tract", fail)
    refused = open_in("tract", shared_bundle, precision, Missing(""))
    assert (refused.verdict, refused.detail) == ("refused", "no such operator at line 3")


def test_the_model_without_functions_gives_the_same_scores(
    shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = engines.inlined(shared_bundle, "float32", tmp_path_factory.mktemp("inlined"))
    golden = shared_bundle.golden()
    found = Session(path).predict(golden["windows"])
    np.testing.assert_allclose(found, golden["scores_float32"], rtol=1e-4, atol=1e-5)


def test_the_browser_example_serves_the_page_the_model_and_nothing_else(shared_bundle: Bundle) -> None:
    command = [sys.executable, SERVE, shared_bundle.path, "--port", "0", "--once"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()

        def get(path: str) -> bytes:
            with urllib.request.urlopen(address + path, timeout=30) as answer:
                content: bytes = answer.read()
            return content

        page = get("")
        assert b"onnxruntime-web/dist" in page
        assert get("model.onnx") == shared_bundle.model_path("float32").read_bytes()
        assert json.loads(get("golden.json"))["shape"] == list(shared_bundle.golden()["windows"].shape)
        assert get("serve.py") == page and get("../../pyproject.toml") == page
        urllib.request.urlopen(address + "found", data=b'{"difference": 0}', timeout=30).close()
        assert server.stdout.read() == '{"difference": 0}\n'
        assert server.wait(30) == 0
