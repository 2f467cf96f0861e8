"""`edgesparse run --follow` where it cannot go on, or has nothing to say: one line, and nothing lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli import app
from tests.support.processes import check_one_line
from tests.system.test_streaming import COMMAND, ENVIRONMENT, VALUES, finish, start, to_csv


def check_in_place(
    capsys: pytest.CaptureFixture[str], arguments: list[object], code: int, message: str
) -> None:
    """One line on stderr at most beside notes, in this process: a start costs a second."""
    assert app.run(["run", *map(str, arguments)]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgesparse: error")]
    assert len(errors) == 1 and message in errors[0]


def test_what_does_not_fit_a_stream_is_one_line(
    shared_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, scores = tmp_path / "a.csv", tmp_path / "scores.csv"
    table.write_text(to_csv(VALUES[:, :620]))
    scores.write_text("time,start\n")
    bundle = shared_bundle.path
    for arguments, message in (
        ([table, "--lateness", 3], "`--lateness` is for streams. Add --follow."),
        (["-"], "Add --follow."),
        (["-", "--follow", "--deadline", -3], "above 0 milliseconds; got -3"),
        (
            ["-", "--follow", "-o", tmp_path / "none" / "x.json"],
            "none/x.json: cannot be written: No such file or directory",
        ),
        (["-", "--follow", "--format", "json", "-o", scores], "does not hold json lines"),
    ):
        check_in_place(capsys, [bundle, *arguments], 2, message)
    assert scores.read_text() == "time,start\n"


def test_a_stream_without_a_score_says_why(shared_bundle: Bundle) -> None:
    err = finish(start(shared_bundle, "-"), to_csv(VALUES[:, :19]))[1]
    assert "no score: a window is 600 consecutive steps, and the stream had 19 in all" in err
    process = start(shared_bundle, "-")
    _, err = process.communicate("time,current,voltage\n" + "x\n" * 100, timeout=60)
    assert process.returncode == 2
    assert "None of the stream's 100 lines could be read" in err


def test_a_closed_output_is_said(shared_bundle: Bundle) -> None:
    script = f'exec {" ".join(COMMAND)} "$0" - --follow >&-'
    done = subprocess.run(
        ["sh", "-c", script, str(shared_bundle.path)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    check_one_line(done, 2, "standard output is closed")
