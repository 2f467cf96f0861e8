"""`verify`: it passes where the bundle was made, and names the boundary that broke."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.verify import Check, verify, verify_path


@pytest.fixture
def copied(tmp_path: Path, shared_bundle: Bundle) -> Bundle:
    return open_bundle(shutil.copytree(shared_bundle.path, tmp_path / "copy.edgesparse"))


def golden_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def broken(checks: list[Check]) -> list[str]:
    return [check.boundary for check in checks if not check.holds]


def test_every_boundary_holds_where_it_was_made(shared_bundle: Bundle) -> None:
    checks = verify_path(shared_bundle.path)
    assert broken(checks) == []
    assert [c.boundary for c in checks] == [
        "hashes",
        "float32 load",
        "float32 scores",
        "float32 selection",
        "float32 engine",
        "int8 load",
        "int8 scores",
    ]


def test_changed_scores(copied: Bundle) -> None:
    golden = copied.golden()
    golden["scores_float32"] = golden["scores_float32"] + np.float32(0.01)
    changed = rewrite_bundle(copied, {"golden.npz": golden_bytes(**golden)}, {})
    assert broken(verify(changed)) == ["float32 scores"]


def test_changed_selection(copied: Bundle) -> None:
    golden = copied.golden()
    golden["selection_float32.1"] = ~golden["selection_float32.1"]
    golden["scores_float32"] = golden["scores_float32"] + np.float32(5e-6)
    changed = rewrite_bundle(copied, {"golden.npz": golden_bytes(**golden)}, {})
    assert broken(verify(changed)) == ["float32 selection"]


def test_changed_file(copied: Bundle) -> None:
    (copied.path / "model.onnx").write_bytes(b"cut")
    checks = verify_path(copied.path)
    assert broken(checks) == ["hashes"]
    assert "model.onnx does not match its hash" in checks[0].detail


def test_missing_signature(copied: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgesparse_runtime.bundle.signature import make_key_pair

    checks = verify_path(copied.path, trusted_keys=[make_key_pair(tmp_path / "k.pem")])
    assert broken(checks) == ["signature"]


def test_a_model_that_does_not_load(copied: Bundle) -> None:
    changed = rewrite_bundle(copied, {"model.int8.onnx": b"no model"}, {})
    assert broken(verify(changed)) == ["int8 load"]


def test_no_golden_vectors(copied: Bundle) -> None:
    for content in (b"PK", golden_bytes()):
        copied = rewrite_bundle(copied, {"golden.npz": content}, {})
        assert broken(verify(copied)) == ["golden vectors"]


def test_engines_that_disagree(copied: Bundle) -> None:
    """The golden scores are the kernel's; a body that computes something else breaks the engine alone."""
    model = onnx.load(copied.model_path("float32"))
    (body,) = [f for f in model.functions if f.name == "SparseAttention"]
    # The body's output is doubled under the name that the function returns.
    output = body.output[0]
    for node in body.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = "halved_output"
    body.node.append(onnx.helper.make_node("Add", ["halved_output", "halved_output"], [output]))
    changed = rewrite_bundle(copied, {"model.onnx": model.SerializeToString()}, {})
    if not any(c.engine and c.engine.startswith("native") for c in verify(changed)):
        pytest.skip("the native library is not built here: there is one engine")
    assert broken(verify(changed)) == ["float32 engine"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        verify_path(tmp_path / "none.edgesparse")
