"""Signatures: who made a bundle, and that nobody changed it since."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.signature import make_key_pair, sign
from edgesparse_runtime.bundle.write import rewrite_bundle, store_files
from edgesparse_runtime.errors import BundleError, InputError

cryptography = pytest.importorskip("cryptography")


def signed_copy(bundle: Bundle, folder: Path, key: Path, *, archive: bool = False) -> Bundle:
    files = {**all_files(bundle), "manifest.sig": sign(bundle.manifest_bytes, key)}
    return store_files(folder / "signed.edgesparse", files, archive=archive)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key_pair(tmp_path / "factory.pem")
    return tmp_path / "factory.pem"


@pytest.mark.parametrize("archive", [False, True])
def test_a_signed_bundle_opens_with_its_key(
    tmp_path: Path, shared_bundle: Bundle, key: Path, archive: bool
) -> None:
    path = signed_copy(shared_bundle, tmp_path, key, archive=archive).path
    public = tmp_path / "factory.pub.pem"
    assert open_bundle(path, trusted_keys=[public]).signature is not None
    other = make_key_pair(tmp_path / "other.pem")
    assert open_bundle(path, trusted_keys=[other, public]).signature is not None
    with pytest.raises(BundleError, match="it was signed with another key"):
        open_bundle(path, trusted_keys=[other])


def test_an_unsigned_bundle_is_refused_where_keys_are_asked_for(shared_bundle: Bundle, key: Path) -> None:
    with pytest.raises(BundleError, match="it has no signature"):
        open_bundle(shared_bundle.path, trusted_keys=[key.with_name("factory.pub.pem")])


def test_any_change_breaks_the_signature(tmp_path: Path, shared_bundle: Bundle, key: Path) -> None:
    public = [key.with_name("factory.pub.pem")]
    path = signed_copy(shared_bundle, tmp_path, key).path
    manifest = (path / "manifest.json").read_bytes()
    for changed in (manifest.replace(b"fast", b"slow"), manifest + b"\n", manifest.replace(b"  ", b" ")):
        (path / "manifest.json").write_bytes(changed)
        with pytest.raises(BundleError, match="it was signed with another key"):
            open_bundle(path, trusted_keys=public)
    (path / "manifest.json").write_bytes(manifest)
    (path / "manifest.sig").write_bytes(bytes(64))
    with pytest.raises(BundleError, match="it was signed with another key"):
        open_bundle(path, trusted_keys=public)
    (path / "manifest.sig").write_bytes(bytes(63))
    with pytest.raises(BundleError, match=r"manifest\.sig must have 64 bytes"):
        open_bundle(path)


def test_writing_anew_drops_the_signature(tmp_path: Path, shared_bundle: Bundle, key: Path) -> None:
    bundle = signed_copy(shared_bundle, tmp_path, key)
    assert rewrite_bundle(bundle, {"card.md": b"new"}, {}).signature is None


def test_openssl_agrees(tmp_path: Path, shared_bundle: Bundle, key: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = signed_copy(shared_bundle, tmp_path, key).path
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(tmp_path / "factory.pub.pem")]
    command += ["-rawin", "-in", "manifest.json", "-sigfile", "manifest.sig"]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in done.stdout, done.stderr


def test_the_secret_is_its_owner_s(key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="exists"):
        make_key_pair(key)
    monkeypatch.setenv("EDGESPARSE_KEY_PASSWORD", "correct horse")
    make_key_pair(tmp_path / "locked.pem")
    assert len(sign(b"x", tmp_path / "locked.pem")) == 64
    monkeypatch.setenv("EDGESPARSE_KEY_PASSWORD", "wrong")
    with pytest.raises(InputError, match="its password"):
        sign(b"x", tmp_path / "locked.pem")
    monkeypatch.delenv("EDGESPARSE_KEY_PASSWORD")
    with pytest.raises(InputError, match="must go together"):
        sign(b"x", tmp_path / "locked.pem")


def test_bad_keys(tmp_path: Path, shared_bundle: Bundle, key: Path) -> None:
    (tmp_path / "text.pem").write_text("not a key")
    with pytest.raises(InputError, match="must be a public key in PEM form"):
        open_bundle(shared_bundle.path, trusted_keys=[tmp_path / "text.pem"])
    with pytest.raises(InputError, match=r"none\.pem: No such file or directory"):
        open_bundle(shared_bundle.path, trusted_keys=[tmp_path / "none.pem"])
    with pytest.raises(InputError, match="must be a private key in PEM form"):
        sign(b"x", tmp_path / "factory.pub.pem")
