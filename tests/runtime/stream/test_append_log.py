"""Scores are appended to a log that may be rotated away."""

from __future__ import annotations

import os
from pathlib import Path

from edgesparse_runtime.stream.append_log import AppendLog


def append(log: AppendLog, text: str) -> bool:
    is_new = log.reopen_if_moved()
    log.write(text)
    log.flush()
    return is_new


def test_a_renamed_or_deleted_log_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.log"
    log = AppendLog(path)
    assert [append(log, "1\n"), append(log, "2\n")] == [False, False]
    path.rename(tmp_path / "scores.log.1")
    assert append(log, "3\n")
    assert path.read_text() == "3\n" and (tmp_path / "scores.log.1").read_text() == "1\n2\n"
    path.unlink()
    path.write_text("made by logrotate\n")
    assert append(log, "4\n")
    assert path.read_text() == "made by logrotate\n4\n" and log.first_byte() == b"m"
    # Copied and truncated: the same file goes on.
    path.write_text("")
    assert not append(log, "5\n")
    assert path.read_text() == "5\n"
    log.close()


def test_a_log_whose_folder_is_gone_keeps_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AppendLog(folder / "scores.log")
    append(log, "1\n")
    folder.rename(tmp_path / "old")
    assert not append(log, "2\n")
    assert (tmp_path / "old" / "scores.log").read_text() == "1\n2\n"
    log.close()


def test_a_pipe_is_never_opened_again(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = AppendLog(fifo)
    assert not append(log, "1\n") and log.first_byte() == b""
    assert os.read(reader, 10) == b"1\n"
    log.close()
    os.close(reader)
