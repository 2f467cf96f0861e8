"""What a signature proves, what it does not, and what signing leaves behind when it fails."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgesparse_runtime.bundle import read
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.signature import make_key_pair, sign
from edgesparse_runtime.bundle.write import rewrite_bundle, store_files
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.cli.building import sign as sign_command
from edgesparse_runtime.errors import BundleError
from tests.support.paths import ROOT

pytest.importorskip("cryptography")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key_pair(tmp_path / "factory.pem")
    return tmp_path / "factory.pem"


def signed(bundle: Bundle, path: Path, key: Path) -> Path:
    files = {**all_files(bundle), "manifest.sig": sign(bundle.manifest_bytes, key)}
    return store_files(path, files).path


def test_a_signature_binds_neither_name_nor_age(tmp_path: Path, shared_bundle: Bundle, key: Path) -> None:
    """By design: an older signed bundle passes in a newer one's place. The page says so."""
    path, public = tmp_path / "pump.edgesparse", [key.with_name("factory.pub.pem")]
    older = signed(shared_bundle, tmp_path / "older.edgesparse", key)
    store_files(path, all_files(shared_bundle))
    newer = rewrite_bundle(open_bundle(path), {"card.md": b"newer"}, {})
    signed(newer, path, key)
    assert open_bundle(path, trusted_keys=public).read("card.md") == b"newer"
    store_files(path, all_files(open_bundle(older)))
    assert open_bundle(path, trusted_keys=public).sha256 == shared_bundle.sha256
    page = " ".join((ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8").split())
    assert "a signature binds the bundle's content and neither its file name nor its age" in page


def test_a_signature_of_another_bundle_does_not_pass(
    tmp_path: Path, shared_bundle: Bundle, key: Path
) -> None:
    path = store_files(tmp_path / "pump.edgesparse", all_files(shared_bundle)).path
    other = rewrite_bundle(open_bundle(path), {"card.md": b"other"}, {})
    files = {**all_files(other), "manifest.sig": sign(shared_bundle.manifest_bytes, key)}
    store_files(path, files)
    with pytest.raises(BundleError, match="it was signed with another key"):
        open_bundle(path, trusted_keys=[key.with_name("factory.pub.pem")])


@pytest.mark.parametrize("content", [b"[" * 1_000_000, b"\xff" * 100, b'{"files": {"../x": 1}}', b""])
def test_nothing_of_a_manifest_is_parsed_before_its_signature_passes(
    content: bytes, tmp_path: Path, shared_bundle: Bundle, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody who is trusted has signed reaches no parser."""
    path = signed(shared_bundle, tmp_path / "pump.edgesparse", key)
    (path / "manifest.json").write_bytes(content)
    monkeypatch.setattr(read, "parse_manifest", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(BundleError, match="sign"):
        open_bundle(path, trusted_keys=[key.with_name("factory.pub.pem")])


@pytest.mark.parametrize("kind", ["a pipe", "a link", "longer", "shorter", "empty"])
def test_a_signature_is_64_bytes_of_a_file(
    kind: str, tmp_path: Path, shared_bundle: Bundle, key: Path
) -> None:
    path = signed(shared_bundle, tmp_path / "pump.edgesparse", key)
    place = path / "manifest.sig"
    content = place.read_bytes()
    place.unlink()
    if kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a link":
        (tmp_path / "elsewhere").write_bytes(content)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.write_bytes({"longer": content + b"\0", "shorter": content[:-1], "empty": b""}[kind])
    with pytest.raises(BundleError):
        open_bundle(path, trusted_keys=[key.with_name("factory.pub.pem")])


@pytest.mark.parametrize("cause", ["the bundle cannot be written", "the manifest is of another key"])
def test_a_failed_sign_with_make_key_leaves_no_key_pair(
    cause: str, tmp_path: Path, shared_bundle: Bundle, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store_files(tmp_path / "pump.edgesparse", all_files(shared_bundle)).path
    if cause == "the bundle cannot be written":

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sign_command, "store_files", fail)
    else:
        signed(shared_bundle, path, key)
    before = sorted(os.listdir(tmp_path))
    assert run(["sign", str(path), "--key", str(tmp_path / "new.pem"), "--make-key"]) != 0
    assert sorted(os.listdir(tmp_path)) == before
    assert json.loads((path / "manifest.json").read_text())["files"]
