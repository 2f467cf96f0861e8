"""A proof fails where a line does, and where nothing was measured."""

from __future__ import annotations

from benchmarks.proofs.lines import Line, finish, line
from benchmarks.support.settings import SCRATCH


def verdict(*lines: Line) -> int:
    SCRATCH.mkdir(exist_ok=True)
    report = SCRATCH / "test_proof_lines.json"
    try:
        return finish(report, lines, {})
    finally:
        report.unlink()


def test_a_proof_fails_with_a_line_and_without_any() -> None:
    held, missed, told = line("a", True, 1.0, "1"), line("b", False, 1.0, "2"), line("c", None, 1.0)
    assert verdict(held, told) == 0
    assert verdict(held, missed) == 1
    assert verdict() == 1
