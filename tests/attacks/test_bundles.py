"""Hostile bundles: nothing is read outside, nothing is unpickled, nothing is allocated on a file's word."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import random
import resource
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.archive import ArchiveSource, pack_files
from edgesparse_runtime.bundle.npz import read_arrays
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.source import read_file
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.errors import BundleError, EdgeSparseError
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.sandbox import rehearse
from edgesparse_runtime.serving.settings import Settings
from tests.support.cost import costs
from tests.support.hostile_models import make_bomb

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "edgesparse", ROOT / "export", ROOT / "runtime" / "edgesparse_runtime")


@pytest.fixture
def folder(tmp_path: Path, shared_bundle: Bundle) -> Path:
    copy = tmp_path / "copy.edgesparse"
    shutil.copytree(shared_bundle.path, copy)
    return copy


def refuse(path: Path, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    assert message in str(caught.value)


def test_links_pipes_and_folders_in_a_bundle(folder: Path) -> None:
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to("/etc/passwd")
    refuse(folder, "'card.md' is a link, and links are refused")
    (folder / "card.md").unlink()
    os.mkfifo(folder / "card.md")
    refuse(folder, "'card.md' does not belong in a bundle")
    (folder / "card.md").unlink()
    (folder / "card.md").mkdir()
    refuse(folder, "'card.md' does not belong in a bundle")


@pytest.mark.parametrize("name", ["../evil", "/etc/cron.d/evil", "a/b", "..", "a\\b", "C:evil", "e" * 300])
def test_members_that_lead_outside(tmp_path: Path, shared_bundle: Bundle, name: str) -> None:
    path = tmp_path / "evil.edgesparse"
    path.write_bytes(pack_files(all_files(shared_bundle)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BundleError):
        open_bundle(path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_in_an_archive_is_a_file_that_does_not_match(tmp_path: Path, shared_bundle: Bundle) -> None:
    files = all_files(shared_bundle)
    path = tmp_path / "evil.edgesparse"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            if name == "card.md":
                info.external_attr, content = 0o120777 << 16, b"/etc/passwd"
            archive.writestr(info, content)
    refuse(path, "card.md does not match its hash")


def test_a_small_archive_does_not_unpack_to_a_large_bundle(tmp_path: Path, shared_bundle: Bundle) -> None:
    """99 kB once were 100 MB to hash and check."""
    path = tmp_path / "evil.edgesparse"
    path.write_bytes(pack_files({**all_files(shared_bundle), "model.onnx": bytes(80 << 20)}))
    with costs() as cost:
        refuse(path, "must unpack to at most 64 MB or 100 times its own size; got 8")
    assert cost.held < 4 << 20


def test_a_large_member_is_read_piece_by_piece(tmp_path: Path) -> None:
    """zipfile copies all that it has for each piece of one read: a gigabyte took minutes."""
    path = tmp_path / "x.edgesparse"
    content = np.random.default_rng(0).bytes(5 << 20)
    path.write_bytes(pack_files({"model.onnx": content}))
    assert read_file(ArchiveSource(path), "model.onnx", len(content)) == content
    with pytest.raises(BundleError, match="must have 1000 bytes"):
        read_file(ArchiveSource(path), "model.onnx", 1000)


def test_a_pickle_in_the_golden_vectors_is_not_opened() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch /tmp/edgesparse-was-here",)

    stream = io.BytesIO()
    np.savez(stream, windows=np.array([Evil()], dtype=object))
    with pytest.raises(BundleError):
        read_arrays(stream.getvalue(), "golden.npz")
    with pytest.raises(BundleError):
        read_arrays(pickle.dumps(Evil()), "golden.npz")
    assert not Path("/tmp/edgesparse-was-here").exists()


def test_no_code_of_ours_unpickles() -> None:
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    names = {a.name for a in node.names} | {getattr(node, "module", None)}
                    assert not names & {
                        "pickle",
                        "cPickle",
                        "dill",
                        "cloudpickle",
                        "joblib",
                        "marshal",
                        "shelve",
                    }, path
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    assert called not in ("torch.load", "yaml.load", "yaml.unsafe_load", "eval", "exec"), path
                    if called in ("np.load", "numpy.load"):
                        allowed = [k for k in node.keywords if k.arg == "allow_pickle"]
                        assert allowed and ast.unparse(allowed[0].value) == "False", path


@pytest.mark.parametrize("size", [17 << 20, 1 << 40])
def test_a_huge_manifest_is_not_read(folder: Path, size: int) -> None:
    os.truncate(folder / "manifest.json", size)
    with costs() as cost:
        refuse(folder, "a manifest must be at most 16 MB")
    assert cost.read < 1 << 20


def test_a_manifest_nested_a_million_deep(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 1_000_000)
    with pytest.raises(BundleError):
        open_bundle(folder)


def test_a_file_larger_than_it_says_is_not_read(folder: Path) -> None:
    with (folder / "card.md").open("ab") as stream:
        stream.truncate(1 << 40)
    with costs() as cost:
        refuse(folder, "card.md does not match its hash")
    assert cost.read < 8 << 20


def test_mutated_archives_end_in_a_sentence(tmp_path: Path, shared_bundle: Bundle) -> None:
    """Some hundred here; `make prove-serve` runs many more."""
    files = all_files(shared_bundle)
    small = {name: files[name] for name in ("manifest.json", "card.md")}
    seed, draw, path = pack_files(small), random.Random(1), tmp_path / "m.edgesparse"
    for _ in range(300):
        content = bytearray(seed)
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        with pytest.raises(EdgeSparseError):
            open_bundle(path)


def test_a_model_that_eats_memory_is_stopped_before_it_is_served(folder: Path) -> None:
    """Its file keeps every rule; only running it shows what it is. The process that tries it is bounded."""
    bundle = open_bundle(folder)
    rewrite_bundle(bundle, {"model.int8.onnx": make_bomb(), "model.onnx": make_bomb()}, {})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError):
        rehearse(Address("copy", "1", folder), Settings())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_a_process_that_dies_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A library that kills whoever loads it stands for what a parser's bug would do.
    fatal = tmp_path / "sitecustomize.py"
    fatal.write_text(
        "import os, signal, sys\n"
        "if 'sandbox' in ' '.join(sys.orig_argv):\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BundleError, match=r"crashes the process that loads it \(signal 11\)"):
        rehearse(Address("copy", "1", folder), Settings())


def test_the_manifest_cannot_name_another_file(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["models"]["float32"]["file"] = "../../etc/passwd"
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        open_bundle(folder)
