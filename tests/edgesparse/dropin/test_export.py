"""Sparsified models through the exporter, the quantizer, verify, profile and the command line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.attention.record import attention_records
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import export_model, to_arrays
from edgesparse_export.dropin.huggingface_folder import load_folder
from edgesparse_export.dropin.program import dropin_to_onnx
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.measure.profile import profile
from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.tiny_models import sharpen, tiny
from tests.support.tolerances import DROPIN_OF_LARGEST

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    largest = np.abs(expected).max(-1, keepdims=True)
    allowed = DROPIN_OF_LARGEST.relative * largest + DROPIN_OF_LARGEST.absolute
    assert (np.abs(actual - expected) <= allowed).all()


@pytest.mark.parametrize("kind", ["bert", "whisper", "llama"])
def test_a_model_becomes_a_bundle_that_verifies_in_both_precisions(
    kind: str, tmp_path: Path, bert_bundle: Bundle
) -> None:
    model, batch = tiny(kind)
    sharpen(model)
    sparsify(model, [batch, batch], density=0.5, block_size=8)
    bundle = bert_bundle if kind == "bert" else export_model(model, batch, tmp_path / "x.edgesparse")[0]
    parity = bundle.manifest["parity"]
    assert parity["holds"] and parity["selection_overlap"] is not None
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
        found = profile(bundle.path, precision="int8", seconds=0.1, threads=1)
        assert (found.precision, found.length) == ("int8", 70)


def test_serving_refuses_a_model_that_takes_named_tensors(
    bert_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn", reason="needs pip install 'edgesparse[serve]'")
    assert run(["serve", str(bert_bundle.path), "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert "must accept windows or text to be served; it accepts named tensors" in error
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
        (["export", "-o", "x.edgesparse"], "must be given either a run folder or `--hf FOLDER`"),
        (["export", "--hf", ".", "-o", "x.edgesparse"], "`--hf` needs `--calibrate FILE`"),
        (["export", "run", "--density", "0.2", "-o", "x.edgesparse"], "`--density` needs `--hf`"),
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    tiny("bert")[0].save_pretrained(path)
    return path


def refused(call: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr after transformers' own, exit 2."""
    assert run(call) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1] and "bug of ours" not in error


IDS = np.ones((4, 40), dtype=np.int64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"wrong": IDS}, "has no input `wrong`. It takes input_ids"),
        ({"input_ids": IDS + 1000}, "It raised: index out of range"),
        ({"input_ids": IDS.astype(np.float32)}, "got input_ids float32"),
        ({"input_ids": IDS, "attention_mask": IDS * 0}, "is all padding"),
        ({"input_ids": np.array(5)}, "`input_ids` is a single number"),
        ({"input_ids": np.array([["a"], ["b"]])}, "`input_ids` is <U1"),
        ({"input_ids": IDS[:, :0]}, "must hold at least one token"),
        ({"input_ids": IDS[:, :20]}, "longer than one block of 32 tokens"),
    ],
)
def test_data_that_does_not_fit_is_said_in_one_line(
    arrays: dict[str, np.ndarray], message: str, folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    np.savez(tmp_path / "data.npz", **arrays)
    refused(hf_call(folder, tmp_path / "data.npz"), message, capsys)
    assert not (folder.parent / "x.edgesparse").exists()


def test_files_that_do_not_fit_are_said_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latin.TXT").write_bytes("caf\xe9\nth\xe9\n".encode("latin1"))
    refused(hf_call(folder, tmp_path / "latin.TXT"), "must be text in UTF-8; byte 3 is not", capsys)
    (tmp_path / "broken.NPZ").write_bytes(b"no zip")
    refused(hf_call(folder, tmp_path / "broken.NPZ"), "Write it with numpy.savez.", capsys)
    refused(hf_call(folder, tmp_path), "must be a text file or an .npz; it is a folder", capsys)
    refused(hf_call(folder, tmp_path / "absent.npz"), "no such file or folder", capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokens", "-5"], "`--tokens` must be at least 2; got -5"),
        (["--tokens", "1"], "`--tokens` must be at least 2; got 1"),
        (["--distill", "-1"], "`--distill` must be a whole number, 0 or more; got -1"),
        (["--fidelity", "0.9"], "must be given, not both"),
        (["--block-size", "0"], "`block_size` must be at least 1"),
        (["-o", "README.md/x.edgesparse"], "must be in a writable folder; Not a directory"),
        (["-o", "/proc/x.edgesparse"], "must be in a writable folder"),
    ],
)
def test_options_are_checked_before_the_work(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # There is no data: what is said about an option is said before anything is read.
    refused([*hf_call(folder, folder / "absent.npz"), *options], message, capsys)


def test_damaged_model_folders_are_said_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "data.npz", input_ids=IDS)
    config = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    from safetensors.numpy import load, save

    tensors = load(weights)
    name = "encoder.layer.1.attention.self.query.weight"
    cases = {
        "cut": (config, weights[:1000], "must hold a model as safetensors"),
        "sizes": ({**config, "hidden_size": 64}, weights, "must hold a model as safetensors"),
        "absent": (config, save({k: v for k, v in tensors.items() if k != name}), f"{name} is missing"),
        "heads": ({**config, "num_attention_heads": 5}, weights, "must hold a model as safetensors"),
    }
    for case, (changed, content, message) in cases.items():
        path = tmp_path / case
        path.mkdir()
        (path / "config.json").write_text(json.dumps(changed))
        (path / "model.safetensors").write_bytes(content)
        refused(hf_call(path, tmp_path / "data.npz"), message, capsys)


@pytest.mark.parametrize("architectures", [None, "BertModel", ["NoSuchModel"], ["BertTokenizer"], [7], []])
def test_architectures_of_no_use_are_passed_over(architectures: object, folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"architectures": architectures}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert type(load_folder(tmp_path)).__name__ == "BertModel"


def test_what_an_export_needs_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "transformers" else find(name, *rest)
    )
    assert run(["export", "--hf", ".", "--calibrate", "a.txt", "-o", "x.edgesparse"]) == 4
    assert "pip install 'edgesparse[dropin,export]'" in capsys.readouterr().err


def test_a_batch_that_the_model_does_not_take_is_not_exported(tmp_path: Path) -> None:
    model, batch = tiny("bert")
    sparsify(model, block_size=8)
    with pytest.raises(InputError, match="must accept the batches"):
        export_model(model, {**batch, "input_ids": batch["input_ids"] + 99}, str(tmp_path / "x.edgesparse"))
    with pytest.raises(InputError, match=r"must end in \.edgesparse"):
        export_model(model, batch, str(tmp_path / "x"))


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


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_sampled_queries_are_exported_with_and_without_padding(kind: str, tmp_path: Path) -> None:
    model, batch = tiny(kind)
    sharpen(model)
    sparsify(model, [batch, batch], density=0.5, block_size=16, sampled_queries=2)
    bundle = export_model(model, batch, tmp_path / "x.edgesparse")[0]
    session = Session(bundle, precision="float32")
    # Other sizes than the one that was traced, and a last block that is short.
    for tokens in (70, 45, 16, 3):
        part = {name: x[:, :tokens] for name, x in batch.items()}
        with torch.no_grad(), attention_records(model) as records:
            expected = run_model(model, part).numpy()
        chosen = [record.selection for record in records.values()]
        for ours, theirs in zip(session.selections(to_arrays(part)), chosen, strict=True):
            assert theirs is not None and np.array_equal(ours, theirs.numpy())
        assert_near(session.predict(to_arrays(part)), expected)
