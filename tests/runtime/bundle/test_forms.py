"""A bundle's forms: schema, older versions, archive, atomic replacement."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edgesparse_runtime.bundle.archive import pack_files
from edgesparse_runtime.bundle.manifest import manifest_schema
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.source import FolderSource
from edgesparse_runtime.bundle.write import copy_bundle, rewrite_bundle, store_files, write_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.session import Session
from tests.support.cost import costs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def archive(tmp_path: Path, shared_bundle: Bundle) -> Path:
    return store_files(tmp_path / "one.edgesparse", all_files(shared_bundle), archive=True).path


def write_zip(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, content in members:
            stream.writestr(name, content)
    return path


# The manifest's published form


def test_manifest_fits_the_published_schema(shared_bundle: Bundle) -> None:
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    jsonschema.validate(shared_bundle.manifest, manifest_schema())
    page = json.loads((ROOT / "docs" / "files" / "manifest.schema.json").read_text())
    assert page == manifest_schema()


@pytest.mark.parametrize(
    "fields",
    [
        {"classes": None},
        {"classes": [1]},
        {"channels": [{"unit": "V"}]},
        {"files": {"../evil": {"bytes": 1, "sha256": "0" * 64}}},
        {"files": {"manifest.json": {"bytes": 1, "sha256": "0" * 64}}},
        {"files": {"model.onnx": {"bytes": -1, "sha256": "0" * 64}}},
        {"files": {"model.onnx": {"bytes": 1, "sha256": "x"}}},
        {"models": {}},
        {"models": {"float32": {"file": 3}}},
        {"breakeven": [1]},
        {"schema_version": 4},
    ],
)
def test_schema_and_reader_refuse_the_same(
    tmp_path: Path, shared_bundle: Bundle, fields: dict[str, object]
) -> None:
    manifest = {**shared_bundle.manifest, **fields}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, manifest_schema())
    files = {**all_files(shared_bundle), "manifest.json": json.dumps(manifest).encode()}
    with pytest.raises(BundleError):
        store_files(tmp_path / "x.edgesparse", files)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_of_schema_version_1_opens_and_verifies(
    tmp_path: Path, shared_bundle: Bundle, series: SeriesSet
) -> None:
    """As the first release wrote it: no selections among the golden vectors, nothing about dense twins."""
    golden = {k: v for k, v in shared_bundle.golden().items() if not k.startswith("selection_")}
    np.savez_compressed(tmp_path / "golden.npz", **golden)  # type: ignore[arg-type]
    made = write_bundle(
        tmp_path / "old.edgesparse",
        {
            "model.onnx": shared_bundle.read("model.onnx"),
            "model.int8.onnx": shared_bundle.read("model.int8.onnx"),
            "golden.npz": (tmp_path / "golden.npz").read_bytes(),
            "card.md": b"# tiny\n",
        },
        {key: shared_bundle.manifest[key] for key in ("name", "task", "channels", "classes", "input")}
        | {"models": {"float32": {"file": "model.onnx"}, "int8": {"file": "model.int8.onnx"}}},
    )
    path = made.path / "manifest.json"
    old = json.loads(path.read_text()) | {"schema_version": 1}
    del old["dense"], old["breakeven"]
    path.write_text(json.dumps(old))
    opened = open_bundle(made.path)
    assert opened.manifest["dense"] == {}
    jsonschema.validate(opened.manifest, manifest_schema())
    checks = verify(opened)
    assert [c.boundary for c in checks if not c.holds] == []
    assert "float32 scores" in [c.boundary for c in checks]
    assert "float32 selection" not in [c.boundary for c in checks]
    # Written anew it is of this version, and whole.
    assert json.loads(rewrite_bundle(opened, {}, {}).manifest_bytes)["schema_version"] == 3


# One file


def test_an_archive_says_what_the_folder_says(
    archive: Path, shared_bundle: Bundle, series: SeriesSet, tmp_path: Path
) -> None:
    opened = open_bundle(archive)
    assert opened.is_archive
    assert opened.manifest == shared_bundle.manifest
    for precision in ("float32", "int8"):
        np.testing.assert_array_equal(
            Session(archive, precision=precision).predict(series),
            Session(shared_bundle, precision=precision).predict(series),
        )
    assert all(check.holds for check in verify(opened))
    again = store_files(tmp_path / "again.edgesparse", all_files(opened), archive=False)
    assert all_files(again) == all_files(shared_bundle)
    assert pack_files(all_files(again)) == archive.read_bytes()
    # It stays one file when it is written anew.
    assert rewrite_bundle(opened, {"card.md": b"new"}, {}).is_archive


def test_an_archive_of_a_read_only_place_leaves_nothing_behind(archive: Path) -> None:
    archive.parent.chmod(0o555)
    try:
        assert Session(archive, precision="int8").precision == "int8"
        assert [p.name for p in archive.parent.iterdir()] == ["one.edgesparse"]
    finally:
        archive.parent.chmod(0o755)


def test_a_folder_is_asked_for_where_a_path_is_needed(archive: Path) -> None:
    with pytest.raises(InputError, match="must be a folder here; it is an archive"):
        open_bundle(archive).model_path("float32")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "a\\b", "..", ".hidden", "C:evil", "a\x00b"])
def test_no_member_leads_outside(tmp_path: Path, shared_bundle: Bundle, name: str) -> None:
    members: list[tuple[str | zipfile.ZipInfo, bytes]] = list(all_files(shared_bundle).items())
    path = write_zip(tmp_path / "x.edgesparse", [*members, (name, b"evil")])
    with pytest.raises(BundleError, match=r"plain name|is not in the manifest"):
        open_bundle(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.edgesparse"]


def test_hostile_archives_are_refused(tmp_path: Path, shared_bundle: Bundle, archive: Path) -> None:
    files = all_files(shared_bundle)
    members: list[tuple[str | zipfile.ZipInfo, bytes]] = list(files.items())
    whole = archive.read_bytes()
    path = tmp_path / "x.edgesparse"
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(path, [*members, ("card.md", b"another")])
    with pytest.raises(BundleError, match="a plain name, once"):
        open_bundle(path)
    for content in (whole[:-1], whole[: len(whole) // 2], whole + b"\0", whole[1:], b"PK\x03\x04", b"PK"):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="must be a"):
            open_bundle(path)
    # An end record that claims a directory of 4 GB.
    path.write_bytes(whole[:-10] + b"\xff" * 8 + b"\0\0")
    with pytest.raises(BundleError, match="whole archive"):
        open_bundle(path)
    write_zip(path, [(f"f{i}", b"") for i in range(1001)])
    with pytest.raises(BundleError, match="at most 1000 files"):
        open_bundle(path)
    stored = zipfile.ZipInfo("manifest.json")
    stored.compress_type = zipfile.ZIP_LZMA
    write_zip(path, [(stored, files["manifest.json"])])
    with pytest.raises(BundleError, match="stored or deflated"):
        open_bundle(path)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path, shared_bundle: Bundle) -> None:
    """64 MB of zeros in 64 kB: the manifest's size decides what is read, and its limit comes first."""
    zeros = zipfile.ZipInfo("manifest.json")
    zeros.compress_type = zipfile.ZIP_DEFLATED
    path = write_zip(tmp_path / "x.edgesparse", [(zeros, bytes(64 << 20))])
    assert path.stat().st_size < 1 << 20
    with costs() as cost, pytest.raises(BundleError, match="a manifest must be at most 16 MB"):
        open_bundle(path)
    assert cost.held < 20 << 20


def test_golden_vectors_of_impossible_size_are_refused(tmp_path: Path, shared_bundle: Bundle) -> None:
    """A header that asks for a terabyte."""
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 300000), }"
    content = tmp_path / "golden.npz"
    write_zip(content, [("windows.npy", header + text.ljust(117).encode() + b"\n")])
    bundle = write_bundle(
        tmp_path / "x.edgesparse",
        {
            **{n: shared_bundle.read(n) for n in shared_bundle.manifest["files"]},
            "golden.npz": content.read_bytes(),
        },
        {k: v for k, v in shared_bundle.manifest.items() if k not in ("schema_version", "files", "created")},
    )
    with pytest.raises(BundleError, match="is larger than 512 MB"):
        bundle.golden()


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.edgesparse").write_bytes(b"not a zip file")
    with pytest.raises(BundleError, match="it is a file and not an archive"):
        open_bundle(tmp_path / "x.edgesparse")


def test_a_form_does_not_replace_the_other(tmp_path: Path, archive: Path, shared_bundle: Bundle) -> None:
    with pytest.raises(InputError, match="exists as an archive"):
        store_files(archive, all_files(shared_bundle), archive=False)
    folder = store_files(tmp_path / "folder.edgesparse", all_files(shared_bundle)).path
    with pytest.raises(InputError, match="exists as a folder"):
        store_files(folder, all_files(shared_bundle), archive=True)


# Whole or not at all

WRITER = """
import os, random, signal, sys, time
from pathlib import Path
from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
path, rounds = Path(sys.argv[1]), int(sys.argv[2])
cards = {b"old" * 9000, b"new" * 9000}
for i in range(rounds):
    begun, begin = os.pipe()
    child = os.fork()
    if child == 0:
        while True:
            for card in cards:
                rewrite_bundle(open_bundle(path), {"card.md": card}, {})
                os.write(begin, b"x")
    # A loaded machine takes long to start a process: only one at work is worth killing.
    os.read(begun, 1)
    time.sleep(random.Random(i).uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert open_bundle(path).read("card.md") in cards, i
print("whole", rounds)
"""


@pytest.mark.system
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_kill_9_leaves_the_old_or_the_new(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.edgesparse"
    fields = {"name": "x", "task": "classification", "channels": [], "classes": [], "input": {}}
    fields |= {"models": {"float32": {"file": "model.onnx"}}}
    # Large, and nothing that packs: most of the time goes into writing.
    files = {"model.onnx": os.urandom(2_000_000), "card.md": b"old" * 9000}
    write_bundle(path, files, fields, archive=form == "archive")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "40"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "runtime")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "whole 40\n", done.stderr
    # What the killed left is removed by the next writer.
    rewrite_bundle(open_bundle(path), {}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["x.edgesparse"]


def test_a_living_writer_keeps_its_place(tmp_path: Path) -> None:
    from edgesparse_runtime.bundle.atomic import staging_folder

    (tmp_path / "x").mkdir()
    with staging_folder(tmp_path / "x") as first:
        os.utime(first, (0, 0))
        with staging_folder(tmp_path / "x"):
            assert first.is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_reader_meets_whole_bundles_while_they_are_replaced(tmp_path: Path, shared_bundle: Bundle) -> None:
    bundle = store_files(tmp_path / "x.edgesparse", all_files(shared_bundle))
    code = (
        "import sys, itertools\n"
        "from edgesparse_runtime.bundle.read import open_bundle\n"
        "from edgesparse_runtime.bundle.write import rewrite_bundle\n"
        "for i in itertools.count(): rewrite_bundle(open_bundle(sys.argv[1]), {'card.md': b'%d' % i}, {})"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle.path)], env=os.environ | {"PYTHONPATH": str(ROOT / "runtime")}
    )
    seen = set()
    try:
        end = time.monotonic() + 30
        while len(seen) < 15 and time.monotonic() < end:
            opened = open_bundle(bundle.path)
            seen.add(opened.manifest["files"]["card.md"]["sha256"])
            time.sleep(random.Random(len(seen)).uniform(0, 0.01))
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(seen) > 3


def test_a_reader_slower_than_the_writers_still_gets_a_whole_bundle(
    tmp_path: Path, shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a bundle is replaced during one reading after another."""
    path, turns, listed = tmp_path / "x.edgesparse", iter(range(1, 21)), FolderSource.sizes
    copy_bundle(shared_bundle, path, {"card.md": b""}, {})

    def replace_it(source: FolderSource) -> dict[str, int]:
        found = listed(source)
        with monkeypatch.context() as patch:
            patch.setattr(FolderSource, "sizes", listed)
            for turn in itertools.islice(turns, 1):
                copy_bundle(shared_bundle, path, {"card.md": b"x" * turn}, {})
        return found

    monkeypatch.setattr(FolderSource, "sizes", replace_it)
    assert open_bundle(path).read("card.md") == b"x" * 20
