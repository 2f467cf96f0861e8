"""Sparsified models through the exporter, the quantizer, verify, profile and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin import export_model, to_arrays
from edgesparse_export.dropin_program import dropin_to_onnx
from edgesparse_export.quantizer import quantize_bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.profiling import profile
from edgesparse_runtime.session import Session
from edgesparse_runtime.verification import verify
from tests.dropin.tiny_models import sharpen, tiny
from tests.tolerances import DROPIN_OF_LARGEST

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    largest = np.abs(expected).max(-1, keepdims=True)
    allowed = DROPIN_OF_LARGEST.relative * largest + DROPIN_OF_LARGEST.absolute
    assert (np.abs(actual - expected) <= allowed).all()


@pytest.mark.parametrize("kind", ["bert", "whisper", "llama"])
def test_a_model_becomes_a_bundle_that_verifies_in_both_precisions(kind: str, tmp_path: Path) -> None:
    model, batch = tiny(kind)
    sharpen(model)
    sparsify(model, [batch, batch], density=0.5, block_size=8)
    bundle, verdict = export_model(model, batch, tmp_path / "x.edgesparse")
    assert verdict.holds and verdict.selection_agreement is not None
    session = Session(bundle, precision="float32")
    with torch.no_grad():
        expected = run_model(model, batch).numpy()
    assert_near(session.predict(to_arrays(batch)), expected)
    density = np.mean([x.mean() for x in session.selections(to_arrays(batch))])
    assert 0.1 < density < 0.9
    more = Session(bundle, precision="float32", top_p=1.0, max_blocks=1000)
    assert np.mean([x.mean() for x in more.selections(to_arrays(batch))]) > density
    bundle, report = quantize_bundle(bundle)
    assert report.change.int8 is not None and report.change.int8.name == "cosine to float32"
    assert report.change.int8.value > 0.99
    assert all(check.holds for check in verify(bundle))
    with pytest.raises(GateError, match="cosine to float32"):
        quantize_bundle(bundle, max_drop=-1.0)
    with pytest.raises(InputError, match="Inputs must be arrays by name"):
        session.predict(np.zeros((1, 1, 8), dtype=np.float32))
    if kind == "bert":
        found = profile(bundle.path, seconds=0.1, threads=1)
        assert (found.precision, found.length) == ("int8", 70)


def test_serving_refuses_a_model_that_takes_named_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn", reason="needs pip install 'edgesparse[serve]'")
    model, batch = tiny("bert")
    sparsify(model, [batch, batch], density=0.5, block_size=8)
    export_model(model, batch, tmp_path / "x.edgesparse")
    assert run(["serve", str(tmp_path / "x.edgesparse"), "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert "must take windows of channels and steps to be served; it takes named tensors" in error
    assert error.count("\n") == 1


def test_the_dense_form_is_the_dense_model_with_fused_attention() -> None:
    model, batch = tiny("bert")
    with torch.no_grad():
        expected = run_model(model, batch).numpy()
    sparsify(model, block_size=8)
    exported = dropin_to_onnx(model, batch, dense=True)
    assert sum(node.op_type == "MultiHeadAttention" for node in exported.graph) == 2
    import onnx_ir as ir

    session = Session("dense.onnx", content=ir.to_proto(exported).SerializeToString())
    real = batch["attention_mask"].bool().numpy()
    actual = session.predict(to_arrays(batch))
    assert_near(actual[real], expected[real])


def test_the_command_line_exports_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, batch = tiny("bert")
    sharpen(model)
    model.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "data.npz", **{k: np.concatenate([v.numpy()] * 3) for k, v in batch.items()})
    out = tmp_path / "bert.edgesparse"
    call = ["export", "--hf", str(tmp_path / "model"), "--calibrate", str(tmp_path / "data.npz")]
    call += ["--density", "0.5", "--block-size", "8", "--batch", "2", "-o", str(out), "--json"]
    assert run(call) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["calibration"]["held_out"] == 1 and report["parity"]["holds"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert [x["name"] for x in manifest["input"]["tensors"]] == ["input_ids", "attention_mask"]
    assert run(["verify", str(out)]) == 0
    assert run(["inspect", str(out)]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["export", "-o", "x.edgesparse"], "must be given a run folder or `--hf FOLDER`"),
        (["export", "--hf", ".", "-o", "x.edgesparse"], "must go with `--calibrate FILE`"),
        (["export", "run", "--density", "0.2", "-o", "x.edgesparse"], "`--density` must go with `--hf`"),
        (
            ["export", "--hf", ".", "--calibrate", "a.txt", "--density", "0.2", "-o", "x.edgesparse"],
            "no config.json",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_one_line(
    call: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(call) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def hf_call(folder: Path, data: Path) -> list[str]:
    call = ["export", "--hf", str(folder), "--calibrate", str(data), "--density", "0.5", "--batch", "2"]
    return [*call, "-o", str(folder.parent / "x.edgesparse")]


def test_text_without_a_tokenizer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = tiny("bert")
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "a.txt").write_text("one two\nthree four\n")
    assert run(hf_call(tmp_path / "model", tmp_path / "a.txt")) == 2
    assert "must hold a tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "x.edgesparse").exists()


def test_code_in_a_model_folder_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # transformers would ask whether to run it: somebody who answers yes must change nothing.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}')
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Own: pass\n")
    np.savez(tmp_path / "data.npz", input_ids=np.ones((4, 40), dtype=np.int64))
    assert run(hf_call(folder, tmp_path / "data.npz")) == 2
    assert "must hold a model" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
