"""Bundles: whole or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle import write as write_module
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle, write_bundle
from edgesparse_runtime.errors import BundleError, InputError


@pytest.fixture
def copied(tmp_path: Path, shared_bundle: Bundle) -> Path:
    folder = tmp_path / "copy.edgesparse"
    shutil.copytree(shared_bundle.path, folder)
    return folder


def change_manifest(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_opens_what_was_written(copied: Path) -> None:
    bundle = open_bundle(copied)
    assert bundle.channels == ("current", "voltage")
    assert bundle.classes == ("fast", "slow")
    assert bundle.golden()["windows"].dtype == np.float32


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx", "golden.npz", "card.md"])
def test_a_changed_file_is_found(copied: Path, name: str) -> None:
    path = copied / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} does not match its hash"):
        open_bundle(copied)


def test_a_missing_file_and_a_link_are_found(copied: Path) -> None:
    (copied / "card.md").unlink()
    with pytest.raises(BundleError, match=r"card\.md is missing"):
        open_bundle(copied)
    (copied / "card.md").symlink_to("model.onnx")
    with pytest.raises(BundleError, match=r"'card\.md' is a link, and links are refused"):
        open_bundle(copied)


def test_what_the_manifest_does_not_name_is_refused(copied: Path) -> None:
    """An ONNX file may ask for external weights beside it: none may lie there without a hash."""
    (copied / "weights.bin").write_bytes(b"\0" * 64)
    with pytest.raises(BundleError, match=r"weights\.bin is not in the manifest"):
        open_bundle(copied)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema_version": 99}, "schema version must be 1 to 3; got 99"),
        ({"schema_version": "1"}, "schema version"),
        ({"classes": None}, "field `classes`"),
        ({"channels": [{"unit": "V"}]}, "field `channels[0].name` must be there; it is missing"),
        ({"files": {"../evil": {"bytes": 1, "sha256": "x"}}}, "a name in `files` must be of the form"),
        ({"models": {"float32": {"file": "/etc/passwd"}}}, "must be of the form that the schema gives"),
        (
            {"models": {"float32": {"file": ["model.onnx"]}}},
            "`models.float32.file` must be a string",
        ),
        ({"models": {}}, "`models.float32` must be there; it is missing"),
        ({"dense": {"float32": {"file": "none.onnx"}}}, "dense 'float32' names no file"),
        (
            {"files": {"model.onnx": {"bytes": -1, "sha256": "0" * 64}}},
            "model.onnx.bytes` must be at least 0",
        ),
        (
            {"files": {"model.onnx": {"bytes": 1, "sha256": "0"}}},
            "model.onnx.sha256` must be of the form",
        ),
    ],
)
def test_a_bad_manifest_is_refused(copied: Path, fields: dict[str, object], message: str) -> None:
    change_manifest(copied, **fields)
    with pytest.raises(BundleError) as caught:
        open_bundle(copied)
    assert message in str(caught.value)


def test_a_manifest_that_is_no_json_is_refused(copied: Path) -> None:
    (copied / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="must be JSON"):
        open_bundle(copied)


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_bundle(tmp_path / "none.edgesparse")
    with pytest.raises(BundleError, match="it has no manifest"):
        open_bundle(tmp_path)


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.edgesparse").mkdir()
    (tmp_path / "mine.edgesparse" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not a bundle"):
        write_bundle(tmp_path / "mine.edgesparse", {"model.onnx": b""}, {})
    with pytest.raises(InputError, match="must end in"):
        write_bundle(tmp_path / "mine", {"model.onnx": b""}, {})
    assert (tmp_path / "mine.edgesparse" / "thesis.txt").exists()


def test_a_failed_write_leaves_the_old_bundle(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_bundle(copied).manifest

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(write_module, "write_durably", full)
    with pytest.raises(OSError, match="no space"):
        rewrite_bundle(open_bundle(copied), {"card.md": b"new"}, {})
    assert open_bundle(copied).manifest == before
    assert [p.name for p in copied.parent.iterdir()] == [copied.name]
