"""A result goes where it was told: files, links, devices, pipes and descriptors."""

from __future__ import annotations

import os
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.output_file import is_written_through, write_output
from tests.support.processes import run

WRITE = """
import sys
from pathlib import Path
from edgesparse_runtime.bundle.output_file import write_output
write_output(Path(sys.argv[1]), "new\\n")
"""


def test_a_file_is_replaced_whole_and_keeps_its_rights(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    write_output(target, "old")
    target.chmod(0o640)
    before = target.stat().st_ino
    write_output(target, "new")
    assert target.read_text() == "new" and target.stat().st_ino != before
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["x.csv"]


def test_links_are_written_through_and_stay(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    real, link, dangling = tmp_path / "data" / "x.csv", tmp_path / "x.csv", tmp_path / "new.csv"
    real.write_text("old")
    link.symlink_to("data/x.csv")
    dangling.symlink_to("data/new.csv")
    for path in (link, dangling):
        write_output(path, "new")
        assert path.is_symlink()
    assert real.read_text() == (tmp_path / "data" / "new.csv").read_text() == "new"
    # Of a file with two names both have the new content.
    other = tmp_path / "other.csv"
    os.link(real, other)
    write_output(real, "newer")
    assert other.read_text() == "newer"


def test_a_fifo_is_read_by_its_reader_and_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    # More than a pipe holds.
    write_output(fifo, "x" * 200_000)
    reader.join(timeout=10)
    assert found == [b"x" * 200_000] and stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except PermissionError:
        pytest.skip("this user or file system makes no devices")
    before = (Path("/dev/null").stat().st_mode, Path("/dev/null").stat().st_rdev)
    for path in (device, Path("/dev/null")):
        write_output(path, "gone")
        assert stat.S_ISCHR(path.stat().st_mode)
    assert before == (Path("/dev/null").stat().st_mode, Path("/dev/null").stat().st_rdev)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_appended_to(tmp_path: Path, name: str) -> None:
    assert run(sys.executable, "-c", WRITE, name).stdout == "new\n"
    link = tmp_path / "link"
    link.symlink_to(name)
    log = tmp_path / "log"
    log.write_text("kept\n")
    with log.open("a") as stream:
        assert run(sys.executable, "-c", WRITE, link, stdout=stream).returncode == 0
    assert log.read_text() == "kept\nnew\n"
    assert link.is_symlink() and sorted(os.listdir(tmp_path)) == ["link", "log"]


def test_many_writers_of_one_file_do_not_collide(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    contents = [f"{i}\n" * 1000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_output(target, contents[i % 8]), range(200)))
    assert target.read_text() in contents
    assert os.listdir(tmp_path) == ["x.csv"]


def test_an_error_names_the_target_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_output(tmp_path / "none" / "x.csv", "x")
    assert caught.value.filename == str(tmp_path / "none" / "x.csv")
    with pytest.raises(IsADirectoryError):
        write_output(tmp_path, "x")
    assert os.listdir(tmp_path) == []


def test_what_is_written_through_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "link").symlink_to("x")
    assert is_written_through(Path("/dev/null")) and is_written_through(Path("/dev/stderr"))
    assert not any(is_written_through(tmp_path / name) for name in ("x", "link", "none"))
