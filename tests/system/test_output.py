"""`edgesparse run` with outputs, names and locales that are not the usual ones."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli import app
from edgesparse_runtime.cli.output import print_fields, print_table
from edgesparse_runtime.data.readers import write_csv
from tests.support.processes import edgesparse
from tests.support.synthetic import make_series

# A name as a zip file from a Japanese Windows leaves it: Shift-JIS, which is no UTF-8.
SHIFT_JIS = os.fsdecode(b"\x83f\x81[\x83^.csv")
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pump.csv"
    write_csv(path, make_series(2, steps=600, seed=3))
    return path


def test_tables_align_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["列", "n"], [["ポンプ1", 2], ["ab", 30]])
    assert capsys.readouterr().out == "列        n\nポンプ1   2\nab       30\n"
    print_fields({"時刻": "a", "e\u0301": "b"})
    assert capsys.readouterr().out == "時刻  a\ne\u0301     b\n"


def test_an_output_may_not_be_an_input(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(table)
    before = table.read_bytes()
    for output in (table, link, shared_bundle.path / "scores.csv"):
        assert app.run(["run", str(shared_bundle.path), str(table), "-o", str(output)]) == 2
        assert "would overwrite the input" in capsys.readouterr().err
    assert table.read_bytes() == before and not (shared_bundle.path / "scores.csv").exists()


def test_a_link_is_written_through(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "scores.csv"
    real.write_text("old")
    link.symlink_to("real.csv")
    assert app.run(["run", str(shared_bundle.path), str(table), "-o", str(link)]) == 0
    assert link.is_symlink() and len(list(csv.DictReader(real.read_text().splitlines()))) == 2
    assert "2 predictions" in capsys.readouterr().err


def test_standard_output_by_name_reaches_the_pipe(shared_bundle: Bundle, table: Path) -> None:
    done = edgesparse("run", shared_bundle.path, table, "--format", "json", "-o", "/dev/stdout")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 2


@pytest.mark.parametrize("env", [{}, PLAIN], ids=["UTF-8", "C"])
def test_a_file_name_that_is_no_utf8(
    shared_bundle: Bundle, table: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    """The name works as an input, in a bundle's path and in the output, and comes back escaped."""
    folder = tmp_path / os.fsdecode(b"\x83f")
    folder.mkdir()
    named = Path(shutil.copy(table, folder / SHIFT_JIS))
    bundle = shutil.copytree(shared_bundle.path, folder / "pump.edgesparse")
    output = folder / os.fsdecode(b"\x81.csv")
    printed = edgesparse("run", bundle, named, env=env)
    assert printed.returncode == 0, printed.stderr
    assert "\\udc83" in printed.stdout and "bug" not in printed.stderr
    for form in ("csv", "json"):
        done = edgesparse("run", bundle, named, "-o", output, "--format", form, env=env)
        assert done.returncode == 0, done.stderr
        assert "udc83" in output.read_text("utf-8")
    missing = edgesparse("run", bundle, folder / "none.csv", env=env)
    assert missing.returncode == 2 and "no such file or folder" in missing.stderr
