"""Scores are appended to a log that may be rotated away."""

from __future__ import annotations

import csv
import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.append_log import AppendLog
from edgesparse_runtime.stream.sample import Score
from edgesparse_runtime.stream.write import ScoreWriter


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


def score(machine: str = "") -> Score:
    return Score(np.array([0.25, 0.75], dtype=np.float32), 1.0, 0.0, 16, 0.0, 0, 0.0, machine=machine)


def test_csv_rows_are_appended_only_under_their_own_header(tmp_path: Path) -> None:
    """Another model's classes, or machines that the file does not have, would stand in the wrong columns."""
    path = tmp_path / "scores.csv"
    for _ in range(2):
        with closing(AppendLog(path)) as log:
            ScoreWriter(log, "csv", ("fast", "slow"), header=log.first_row()).write(score(), False)
    rows = list(csv.reader(path.read_text().splitlines()))
    assert (
        len(rows) == 3 and rows[0].count("score_slow") == 1 and {len(row) for row in rows} == {len(rows[0])}
    )
    before = path.read_text()
    with closing(AppendLog(path)) as log:
        for classes, machine in ((("fast", "slower"), ""), (("fast", "slow"), "P1"), (("fast", "a b"), "")):
            writer = ScoreWriter(log, "csv", classes, header=log.first_row())
            with pytest.raises(InputError, match=r"only to a file with the columns time, .*; it has time, "):
                writer.write(score(machine), False)
    assert path.read_text() == before
    # One score of many without a name keeps the columns.
    path = tmp_path / "machines.csv"
    with closing(AppendLog(path)) as log:
        writer = ScoreWriter(log, "csv", ("fast", "slow"))
        for machine in ("P1", "", "P2"):
            writer.write(score(machine), False)
    named = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["machine"], row["score_slow"], row["faults"]) for row in named] == [
        ("P1", "0.75", ""),
        ("", "0.75", ""),
        ("P2", "0.75", ""),
    ]
