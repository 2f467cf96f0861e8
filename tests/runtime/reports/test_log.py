"""docs/reports.md names tests that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from tests.support.paths import ROOT

LOG = ROOT / "docs" / "reports.md"
HERE = Path(__file__).parent
# `test_times.py::test_period[epoch in ms]`
_TEST = re.compile(r"`(?P<file>test_\w+)\.py::(?P<name>test_\w+)(?:\[(?P<case>[^\]]+)\])?`")


def rows() -> list[list[str]]:
    lines = [line for line in LOG.read_text().splitlines() if line.startswith("| ") and "#" in line]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_every_test_of_the_log_exists() -> None:
    for row in rows():
        assert len(row) == 5, row
        found = list(_TEST.finditer(row[-1]))
        assert found, row
        assert _TEST.sub("", row[-1]).strip(" ,") == "", row
        for test in found:
            module = importlib.import_module(f"tests.runtime.reports.{test['file']}")
            function = getattr(module, test["name"])
            cases = {
                case.id
                for mark in getattr(function, "pytestmark", [])
                if mark.name == "parametrize"
                for case in mark.args[1]
                if hasattr(case, "id")
            }
            assert test["case"] is None or test["case"] in cases, test[0]


def test_the_log_has_enough_sources() -> None:
    sources = [row[0] for row in rows()]
    assert len(set(sources)) == len(sources) >= 40
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", source) for source in sources)


def test_every_report_that_a_test_names_is_in_the_log() -> None:
    named = {
        source
        for file in HERE.glob("test_*.py")
        for source in re.findall(r"[\w.-]+/[\w.-]+#\d+", file.read_text())
    }
    assert named <= {row[0] for row in rows()}
