"""What every proof prints and stores: a line per claim, with one alphabet of verdicts, and one JSON report.

    PASS  NAME: FIGURE  (target: TARGET)

FAIL: the target is missed, or what measures it is missing. INFO: a figure without a target. SKIP: a claim
that this form of the proof does not measure (`QUICK=1`).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from benchmarks.support.machine import describe_machine
from benchmarks.support.settings import QUICK
from tests.support.paths import ROOT


class Line(TypedDict):
    """One claim.

    Attributes:
        verdict: PASS, FAIL, INFO or SKIP.
        figure: a number where the claim is one number, otherwise text.
        target: what the figure is compared with; "" for INFO.
        note: what else to know of the figure; "" for none.
    """

    verdict: str
    name: str
    figure: float | str
    target: str
    note: str


def line(name: str, holds: bool | None, figure: float | str, target: str = "", note: str = "") -> Line:
    """Print one claim and return it; `holds` None is a figure without a target."""
    verdict = "INFO" if holds is None else "PASS" if holds else "FAIL"
    return show(Line(verdict=verdict, name=name, figure=figure, target=target, note=note))


def skip(name: str, reason: str, target: str = "") -> Line:
    """Print a claim that is not measured this time and return it."""
    return show(Line(verdict="SKIP", name=name, figure=reason, target=target, note=""))


def show(entry: Line) -> Line:
    """Print a claim, also one that was stored, and return it."""
    figure = entry["figure"]
    text = figure if isinstance(figure, str) else f"{figure:.4g}"
    note = f" {entry['note']}" if entry["note"] else ""
    target = f"  (target: {entry['target']})" if entry["target"] else ""
    print(f"{entry['verdict']}  {entry['name']}: {text}{note}{target}", flush=True)
    return entry


def chosen_parts(description: str | None, parts: Iterable[str]) -> list[str]:
    """The parts named on the command line; an empty list where none is, which stands for all."""
    parts = list(parts)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    chosen: list[str] = parser.parse_args().parts
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"parts are {', '.join(parts)}; got {', '.join(unknown)}")
    return chosen


def machine_now(threads: int | None = None) -> dict[str, Any]:
    """The machine, its load and the versions; a figure measured under load shows it."""
    return {**describe_machine(threads), "load_average": os.getloadavg()}


def finish(path: Path, lines: Iterable[Line], machine: dict[str, Any], **more: Any) -> int:
    """Write the report and return the exit code: 1 when a line is FAIL, or when there is no line at all.

    Args:
        path: of the JSON report.
        lines: all lines of the proof.
        machine: `machine_now()`, taken before measuring.
        more: further facts and measurements to store.
    """
    lines = list(lines)
    report = {"machine": machine, "quick": QUICK, **more, "lines": lines}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"as JSON: {path.relative_to(ROOT)}")
    if not lines:
        print("FAIL: nothing was measured.")
    return int(not lines or any(entry["verdict"] == "FAIL" for entry in lines))
