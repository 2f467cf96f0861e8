"""The lines of `make prove-target` about `auto`: a miss is a FAIL, and so is a table that did not load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.proofs import target
from benchmarks.support.stored_cases import StoredCases
from benchmarks.target.choice import PLAIN


def found(
    isa: str, auto: str, by_tokens: dict[str, dict[str, float]], *, right: bool = True
) -> dict[str, Any]:
    """What a pinned process would have printed; a contender's figure is its time over that of `auto`."""
    over = {
        tokens: {
            name: {"value": v, "low": v, "high": v, "ours_ms": 1.0, "rival_ms": v}
            for name, v in times.items()
        }
        for tokens, times in by_tokens.items()
    }
    return {"isa": isa, "engine": f"native ({isa})", "auto": auto, "over": over, "right": {auto: right}}


@pytest.fixture
def verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(results: dict[str, dict[str, Any]]) -> dict[str, str]:
        monkeypatch.setattr(target, "expected_isas", lambda: set(results) | {"scalar", "amx_emulated"})
        monkeypatch.setattr(target, "measure_pinned", lambda isa, folder: results.get(isa) or body)
        body = found("", "body, float32", {"32": {"body, float32": 1.0, PLAIN: 1.0}}) | {"isa": None}
        lines = target.choice(StoredCases(tmp_path, results))
        return {entry["name"]: entry["verdict"] for entry in lines}

    return run


def test_each_limit_fails_on_its_own_and_at_one_length(verdicts: Any) -> None:
    fast = {"native, int8": 1.0, "native, float32": 1.3, PLAIN: 1.4}
    shown = verdicts(
        {
            "amx": found("amx", "native, int8", {"32": fast, "64": fast}),
            "avx2": found("avx2", "native, int8", {"32": fast, "64": fast | {"native, float32": 0.94}}),
            "avxvnni": found("avxvnni", "native, int8", {"32": fast | {PLAIN: 0.97}, "64": fast}),
        }
    )
    assert shown == {
        "auto over the fastest precision and engine, amx": "PASS",
        "auto over plain onnxruntime's dense, amx": "PASS",
        "auto over the fastest precision and engine, avx2": "FAIL",
        "auto over plain onnxruntime's dense, avx2": "PASS",
        "auto over the fastest precision and engine, avxvnni": "PASS",
        "auto over plain onnxruntime's dense, avxvnni": "FAIL",
        "auto over the fastest precision and engine, body": "PASS",
        "auto over plain onnxruntime's dense, body": "PASS",
    }


def test_wrong_outputs_and_another_table_fail(verdicts: Any) -> None:
    fast = {"32": {"native, int8": 1.0, PLAIN: 1.4}}
    shown = verdicts(
        {"amx": found("amx", "native, int8", fast, right=False), "avx2": found("amx", "x", fast)}
    )
    assert shown["auto over plain onnxruntime's dense, amx"] == "FAIL"
    assert shown["auto, avx2"] == "FAIL"
