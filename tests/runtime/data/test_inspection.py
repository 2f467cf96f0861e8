"""`edgesparse data inspect`: what it finds, and that it finds nothing in good data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.data.inspection.finding import Finding
from edgesparse_runtime.data.inspection.inspect import inspect_data
from edgesparse_runtime.data.inspection.leaks import tells_class
from edgesparse_runtime.data.readers import ReadOptions
from edgesparse_runtime.data.readers.spec import read_spec
from edgesparse_runtime.measure.report.data_page import inspection_page
from tests.support.processes import check_one_line, edgesparse
from tests.support.recordings.faults import FAULTS
from tests.support.recordings.folders import CHANNELS, CLASSES, VARIANTS, edit, make_folder

BY_NAME = "{label}/{group}_*"
OPTIONS = ReadOptions(label_from=BY_NAME)
NORMAL, FAULTY = CLASSES


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("good") / "録音")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "録音")
    return tmp_path / "録音"


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


def test_good_data_have_no_finding_and_are_understood(good: Path) -> None:
    found = inspect_data(good, OPTIONS)
    assert found.findings == [] and inspect_data(good).findings == []
    assert found.period == pytest.approx(0.01) and found.steps == (400, 400)
    assert found.time == "date, no zone, as 2026/11/02 08:00:00.00"
    assert found.forms == {"UTF-8, commas between cells": 12}
    assert [(c.name, c.unit) for c in found.channels] == list(zip(CHANNELS, ("m/s2", "A", "℃"), strict=True))
    assert found.classes == {kind: {"P1": 2, "P2": 2, "P3": 2} for kind in sorted(CLASSES)}
    assert len(found.pieces) == 12


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(folder: Path, name: str) -> None:
    planted = FAULTS[name]
    planted.change(folder)
    found = inspect_data(folder, OPTIONS).findings
    assert kinds(found) == [planted.kind], found
    assert planted.where in found[0].where and found[0].channel == planted.channel


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.words])
def test_what_training_refuses_is_found_too(folder: Path, name: str) -> None:
    VARIANTS[name].change(folder)
    # By sub-folder, as `train` reads it.
    found = inspect_data(folder)
    assert any(finding.stops for finding in found.findings), found.findings
    assert len(found.pieces) >= 11


def _drop(lines: list[str]) -> list[str]:
    """A third of the currents are missing."""
    rows = [line.split(",") for line in lines]
    return [",".join([*row[:2], "" if i % 3 == 1 and i else row[2], row[3]]) for i, row in enumerate(rows)]


def _back(lines: list[str]) -> list[str]:
    return [lines[0], *lines[200:], *lines[1:200]]


def _same(lines: list[str]) -> list[str]:
    return [lines[0], *(",".join([*line.split(",")[:3], "40.00"]) for line in lines[1:])]


@pytest.mark.parametrize(
    ("change", "kind"),
    [(_drop, "missing"), (_back, "row order"), (_same, "stuck"), (lambda lines: lines[:20], "short")],
    ids=["missing", "back", "stuck", "short"],
)
def test_other_faults_are_found(folder: Path, change: Callable[[list[str]], list[str]], kind: str) -> None:
    edit(change)(folder)
    assert kinds(inspect_data(folder, OPTIONS).findings) == [kind]


def test_a_channel_that_never_changes_and_lengths_that_tell(folder: Path) -> None:
    for path in folder.glob("*/*.csv"):
        name = f"{path.parent.name}/{path.name}"
        edit(_same, name)(folder)
        if path.parent.name == FAULTY:
            edit(lambda lines: lines[:300], name)(folder)
    found = inspect_data(folder, OPTIONS).findings
    assert {("constant", CHANNELS[2]), ("length leak", "")} <= {(f.kind, f.channel) for f in found}


def test_it_resumes_after_files_that_cannot_be_read(folder: Path) -> None:
    (folder / NORMAL / "P9_0.csv").symlink_to("/nowhere")
    (folder / NORMAL / "P1_0.csv").write_bytes(b"\0\1")
    edit(lambda lines: [*lines[:9], "soon" + lines[9][22:], *lines[10:]])(folder)
    found = inspect_data(folder, OPTIONS)
    texts = {finding.where.rpartition("/")[2]: finding.text for finding in found.findings}
    assert len(found.pieces) == 10 and all(finding.stops for finding in found.findings)
    assert texts == {
        "P9_0.csv": "it cannot be read: No such file or directory. Restore it or remove it.",
        "P1_0.csv": "it must be text; it holds NUL bytes.",
        "P2_1.csv": "row 10: column 時刻 must be a time; got 'soon'. Write it as 2024-01-31 13:00:00.25, or "
        "as a number.",
    }


def test_too_few_classes_stop_training(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / FAULTY)
    found = inspect_data(folder).findings
    assert kinds(found) == ["labels"] and f"all recordings are of class {NORMAL}" in found[0].text
    assert inspect_data(folder, ReadOptions(task="forecasting")).findings == []
    shutil.copytree(folder / NORMAL, tmp_path / "none")
    assert "no recording has a class" in inspect_data(tmp_path / "none").findings[0].text


def test_a_slow_channel_is_neither_stuck_nor_clipped(folder: Path) -> None:
    """A thermometer that writes half degrees, of a machine that warms up and cools down."""
    for number, path in enumerate(sorted(folder.glob("*/*.csv"))):
        lines = path.read_text(encoding="utf-8").splitlines()
        warmth = np.round(2 * (40 + 4 * np.sin(np.arange(1, len(lines)) / (60 + number)))) / 2
        rows = [",".join([*line.split(",")[:3], str(w)]) for line, w in zip(lines[1:], warmth, strict=True)]
        path.write_text("\n".join([lines[0], *rows, ""]), encoding="utf-8")
    assert not {"stuck", "clipped"} & set(kinds(inspect_data(folder, OPTIONS).findings))


def test_chance_is_no_leak() -> None:
    assert not tells_class([1, 2, 3, 4], ["a", "a", "b", "b"], 1)
    assert tells_class([1, 2, 3, 4, 5, 11, 12, 13, 14, 15], ["a"] * 5 + ["b"] * 5, 1)
    assert not tells_class([1, 2, 3, 4, 5, 5, 12, 13, 14, 15], ["a"] * 5 + ["b"] * 5, 1)
    rng = np.random.default_rng(0)
    labels = ["a"] * 5 + ["b"] * 5
    false = sum(tells_class(rng.random(10).tolist(), labels, 1) for _ in range(2000))
    assert false < 40


def test_one_file_with_rows_of_several_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["time,level,label"]
    for i in range(1200):
        rows.append(f"{i * 0.1:.1f},{rng.standard_normal():.4f},{'on' if i < 600 else 'off'}")
    (tmp_path / "x.csv").write_text("\n".join(rows))
    found = inspect_data(tmp_path / "x.csv")
    assert found.classes == {"off": {"": 1}, "on": {"": 1}} and found.findings == []
    assert found.period == pytest.approx(0.1)


def test_a_page_shows_it_without_anything_else(folder: Path) -> None:
    FAULTS["a stuck sensor"].change(folder)
    (folder / NORMAL / "P1_0.csv").rename(folder / NORMAL / "P1_<b>.csv")
    page = inspection_page(inspect_data(folder, OPTIONS))
    assert page.count("<svg") >= 2 * len(CHANNELS) + 1
    assert "stuck at 5.123" in page and "P1_&lt;b&gt;.csv" in page
    assert "http" not in page and "<script" not in page and "<b>.csv" not in page


def test_the_verb_writes_a_spec_that_verbs_take(good: Path, tmp_path: Path) -> None:
    spec, page = tmp_path / "data.yaml", tmp_path / "x.html"
    done = edgesparse(
        *("data", "inspect", good, "--label-from", BY_NAME, "--json", "--save-spec", spec, "--html", page)
    )
    assert done.returncode == 0 and page.stat().st_size > 5000, done.stderr
    result = json.loads(done.stdout)
    assert (result["schema"], result["recordings"], result["findings"]) == (
        "edgesparse.data_inspect/1",
        12,
        [],
    )
    assert read_spec(spec) == {
        "label_from": BY_NAME,
        "time_column": "時刻",
        "channels": list(CHANNELS),
        "period": pytest.approx(0.01),
    }
    again = edgesparse("data", "inspect", good, "--spec", spec)
    assert again.returncode == 0 and again.stdout.rstrip().endswith("nothing looks wrong")
    assert "P1  P2  P3" in again.stdout


def test_the_verb_refuses_in_one_line(good: Path, tmp_path: Path) -> None:
    check_one_line(edgesparse("data", "look", good), 2, "must be followed by inspect")
    check_one_line(edgesparse("data", "inspect"), 2, "must be given one path; got none")
    check_one_line(edgesparse("data", "inspect", tmp_path / "none"), 2, "no such file or folder")
    check_one_line(edgesparse("data", "inspect", tmp_path), 2, "must hold recordings")
    check_one_line(edgesparse("data", "inspect", good, "--spec", tmp_path / "none.yaml"), 2, "no such file")
