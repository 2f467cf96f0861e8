"""Files that are written are whole, under attack too; what was opened is what is used."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgesparse_runtime.bundle import staging
from edgesparse_runtime.bundle.atomic import (
    put_in_place,
    replace_text,
    replacing,
    staging_folder,
    write_durably,
)
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.regular_file import open_regular
from edgesparse_runtime.bundle.signature import make_key_pair
from edgesparse_runtime.bundle.source import FolderSource
from edgesparse_runtime.bundle.write import rewrite_bundle, store_files
from edgesparse_runtime.deploying import triton, wheelhouse
from edgesparse_runtime.errors import BundleError, InputError


def test_two_writers_of_one_file_do_not_tear_it(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    texts = {letter * 100_000 for letter in "ab"}
    problems: list[object] = []
    replace_text(target, "a" * 100_000)

    def write(text: str) -> None:
        try:
            for _ in range(40):
                replace_text(target, text)
        except OSError as error:
            problems.append(error)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if target.read_text() not in texts:
            problems.append("torn")
    for writer in writers:
        writer.join()
    assert problems == []
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("name", [".out.csv.new", ".out.csv", "out.csv.new", ".out.csv.0.new"])
def test_a_planted_link_is_not_written_through(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / name).symlink_to(victim)
    replace_text(tmp_path / "out.csv", "text")
    assert victim.read_text() == "mine"
    assert (tmp_path / "out.csv").read_text() == "text"


def test_a_link_or_file_in_the_way_is_an_error_for_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("mine")
    for name in ("link", "file"):
        with pytest.raises(FileExistsError):
            write_durably(tmp_path / name, b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as stream:
            stream.write(b"new")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_opening_never_blocks_and_opens_files_only(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(BundleError, match="regular file"):
        open_regular(path)


def test_a_file_that_becomes_a_pipe_after_the_listing_does_not_block(
    tmp_path: Path, shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = store_files(tmp_path / "x.edgesparse", all_files(shared_bundle))
    listed = FolderSource.sizes

    def exchange(source: FolderSource) -> dict[str, int]:
        found = listed(source)
        (bundle.path / "card.md").unlink(missing_ok=True)
        os.mkfifo(bundle.path / "card.md")
        monkeypatch.setattr(FolderSource, "sizes", listed)
        return found

    monkeypatch.setattr(FolderSource, "sizes", exchange)
    with pytest.raises(BundleError):
        open_bundle(bundle.path)


@pytest.mark.parametrize("archive", [False, True])
def test_readers_during_replacements_always_get_a_whole_bundle(
    archive: bool, tmp_path: Path, shared_bundle: Bundle
) -> None:
    """A thousand and more in `make prove-security`; a few seconds here."""
    files = all_files(shared_bundle)
    path = store_files(tmp_path / "x.edgesparse", files, archive=archive).path
    seen, problems, is_done = 0, [], threading.Event()

    def replace_it() -> None:
        try:
            while not is_done.is_set():
                store_files(path, files)
        except Exception as error:
            problems.append(error)

    writer = threading.Thread(target=replace_it)
    writer.start()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        try:
            opened = open_bundle(path)
            assert opened.sha256 == shared_bundle.sha256
            seen += 1
        except Exception as error:
            problems.append(error)
    is_done.set()
    writer.join()
    assert problems == []
    assert seen > 0


def test_what_another_writer_put_there_is_not_overwritten(tmp_path: Path, shared_bundle: Bundle) -> None:
    path = store_files(tmp_path / "x.edgesparse", all_files(shared_bundle)).path
    first, second = open_bundle(path), open_bundle(path)
    rewrite_bundle(first, {"card.md": b"first"}, {})
    with pytest.raises(BundleError, match="was replaced while it was in use"):
        rewrite_bundle(second, {"card.md": b"second"}, {})
    assert open_bundle(path).read("card.md") == b"first"
    assert os.listdir(tmp_path) == [path.name]


def test_an_opened_bundle_reads_what_it_was_or_fails(tmp_path: Path, shared_bundle: Bundle) -> None:
    """The path never decides: another bundle in its place is not mixed with the one that was opened."""
    path = store_files(tmp_path / "x.edgesparse", all_files(shared_bundle)).path
    opened = open_bundle(path)
    rewrite_bundle(open_bundle(path), {"card.md": b"other"}, {})
    with pytest.raises(BundleError):
        opened.read("card.md")
    assert opened.read("model.onnx") == shared_bundle.read("model.onnx")


def test_a_writer_waits_for_another_and_the_lock_leaves_nothing(tmp_path: Path) -> None:
    order: list[str] = []

    def write(name: str) -> None:
        from edgesparse_runtime.bundle.atomic import only_writer

        with only_writer(tmp_path / "x"):
            order.append(f"{name} in")
            time.sleep(0.1)
            order.append(f"{name} out")

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [entry.split()[1] for entry in order] == ["in", "out", "in", "out"]
    assert os.listdir(tmp_path) == []


def test_a_folder_removed_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer of the target takes it for a leftover in the instant after it was made."""
    made: list[Path] = []
    mkdir = Path.mkdir

    def make(path: Path, **how: Any) -> None:
        mkdir(path, **how)
        made.append(path)
        if len(made) == 1:
            staging.remove_leftovers(tmp_path / "x")

    monkeypatch.setattr(Path, "mkdir", make)
    path, handle = staging.stage_folder(tmp_path / "x")
    os.close(handle)
    assert made[0] != path == made[1]
    assert os.listdir(tmp_path) == [path.name]


def test_staging_is_unpredictable_and_private(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with staging_folder(tmp_path / "x") as folder:
            names.add(folder.name)
            assert folder.stat().st_mode & 0o077 == 0
            (folder / "x").mkdir()
            put_in_place(folder / "x", tmp_path / "x")
    assert len(names) == 3


def test_two_deployments_to_one_repository_keep_both_versions(
    tmp_path: Path, shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads which versions there are, and writes them with its own."""
    barrier = threading.Barrier(2)

    def put_late(new: Path, target: Path) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            # Both are here at once unless one waits for the other.
            barrier.wait(1)
        put_in_place(new, target)

    def deploy(version: int) -> None:
        triton.write_triton_repository(
            shared_bundle, tmp_path / "models", version=version, library=False, precision="float32"
        )

    monkeypatch.setattr(triton, "put_in_place", put_late)
    threads = [threading.Thread(target=deploy, args=(version,)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (model,) = (tmp_path / "models").iterdir()
    assert {path.name for path in model.iterdir() if path.is_dir()} == {"1", "2"}


STAGED = ".out.csv.0123456789abcdef.new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_writer_removes_what_a_killed_one_left(kind: str, tmp_path: Path) -> None:
    (tmp_path / STAGED).mkdir() if kind == "folder" else (tmp_path / STAGED).write_text("half")
    (tmp_path / "out.csv").write_text("old")
    replace_text(tmp_path / "out.csv", "new")
    assert os.listdir(tmp_path) == ["out.csv"]


def test_the_first_writer_to_succeed_removes_what_killed_ones_left(tmp_path: Path) -> None:
    """A target that was never there, or is gone: its leftovers stay until there is a new one."""
    target = tmp_path / "out.csv"
    (tmp_path / STAGED / "out.csv.old").mkdir(parents=True)
    with contextlib.suppress(RuntimeError), staging_folder(target):
        raise RuntimeError
    assert os.listdir(tmp_path) == [STAGED]
    with staging_folder(target) as folder:
        (folder / "out.csv").mkdir()
        put_in_place(folder / "out.csv", target)
    assert os.listdir(tmp_path) == ["out.csv"]


def test_what_a_living_writer_has_staged_stays(tmp_path: Path) -> None:
    """However long it takes, and whether it is a file or a folder; both get their names in the end."""
    target = tmp_path / "out.csv"
    with replacing(target) as stream, staging_folder(target) as folder:
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        replace_text(target, "another's")
        with staging_folder(target):
            pass
        assert folder.is_dir()
        stream.write(b"mine")
    assert target.read_text() == "mine"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize(
    "name",
    [
        *(".out.csv.backup", ".out.csv.backup_1", ".out.csv.new", ".out.csv.0123456789abcdef.new.old"),
        *(
            ".out.csv.0123456789ABCDEF.new",
            ".other.csv.0123456789abcdef.new",
            ".outxcsv.0123456789abcdef.new",
        ),
    ],
)
def test_nothing_but_leftovers_of_this_target_is_removed(name: str, tmp_path: Path) -> None:
    for target in ("out.csv", "*", "[a-z]*"):
        (tmp_path / name).mkdir(exist_ok=True)
        os.utime(tmp_path / name, (0, 0))
        replace_text(tmp_path / target, "text")
        with staging_folder(tmp_path / target):
            pass
        assert (tmp_path / name).is_dir()


def test_a_leftover_that_became_a_link_or_a_pipe_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / STAGED).symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / STAGED.replace("0", "f"))
    replace_text(tmp_path / "out.csv", "text")
    assert (tmp_path / "mine" / "file").read_text() == "mine"


def test_a_new_file_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer removes it after it was created and before it is locked."""
    lock, target, removed = staging.fcntl.flock, tmp_path / "out.csv", list[str]()

    def remove_first(handle: int, how: int) -> None:
        if not removed:
            (path,) = tmp_path.iterdir()
            path.unlink()
            removed.append(path.name)
        lock(handle, how)

    monkeypatch.setattr(staging.fcntl, "flock", remove_first)
    replace_text(target, "text")
    assert removed
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_key_pair_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "key.pub.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises((InputError, OSError)):
        make_key_pair(tmp_path / "key.pem")
    assert not (tmp_path / "key.pem").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_killed_wheelhouse_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of a run that still gathers stays."""
    dead = tmp_path / ".wheels.0123456789abcdef.new"
    dead.mkdir()
    (dead / "half.whl").write_bytes(b"half")

    def fill(folder: Path, *_: object) -> bool:
        assert not dead.exists()
        (folder / "a.whl").write_bytes(b"whole")
        if not (tmp_path / "a.whl").exists():
            monkeypatch.setattr(
                wheelhouse, "_fill", lambda inner, *_: bool((inner / "b.whl").write_bytes(b""))
            )
            wheelhouse.gather(tmp_path, "linux_x86_64")
            assert folder.is_dir()
        return True

    monkeypatch.setattr(wheelhouse, "_fill", fill)
    assert wheelhouse.gather(tmp_path, "linux_x86_64").wheels == ["a.whl"]
    assert sorted(os.listdir(tmp_path)) == ["a.whl", "b.whl"]
