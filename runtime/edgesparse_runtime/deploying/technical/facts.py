"""Every value of a technical file: the page itself computes nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.deploying.technical.entries import ENTRIES
from edgesparse_runtime.deploying.technical.points import BOM, MANIFEST, TITLES, Fact, facts_of_point
from edgesparse_runtime.deploying.technical.reports import EXPECTED, STANDS_FOR, Report
from edgesparse_runtime.deploying.technical.requirements import requirements_of
from edgesparse_runtime.evaluation.verify import Check

SCHEMA = "edgesparse.technical_file/1"


def technical_facts(
    bundle: Bundle,
    bom: dict[str, Any],
    checks: list[Check],
    *,
    stated: dict[str, str],
    reports: list[Report],
    bom_file: tuple[str, str] | None,
    written: str,
) -> dict[str, Any]:
    """What is known under each point of Annex VII, and what the manufacturer has to fill in.

    Args:
        bom: as `bundle_bom` gives it.
        checks: as `verify` gives them, on this machine.
        stated: the manufacturer's entries by key.
        bom_file: name and sha256 of the file that `bom` was written to.
        written: time of the document, as ISO 8601.
    """
    points: dict[str, dict[str, Any]] = {
        number: {
            "title": title,
            "facts": [asdict(fact) for fact in facts_of_point(number, bundle, bom, checks)],
            "entries": [
                {"key": e.key, "wanted": e.wanted, "stated": stated.get(e.key)}
                for e in ENTRIES
                if e.point == number
            ],
        }
        for number, title in TITLES.items()
    }
    points["8"]["facts"].insert(0, asdict(_bom_fact(bom_file)))
    requirements = [
        asdict(r) | {"key": f"requirement_{r.letter}", "stated": stated.get(f"requirement_{r.letter}")}
        for r in requirements_of(bundle)
    ]
    entries = [entry for point in points.values() for entry in point["entries"]] + requirements
    return {
        "schema": SCHEMA,
        "bundle": bundle.name,
        "sha256": bundle.sha256,
        "written": written,
        "edgesparse": tool_version(),
        "holds": all(check.holds for check in checks),
        "entries": len(entries),
        "open": [entry["key"] for entry in entries if entry["stated"] is None],
        "points": points,
        "requirements": requirements,
        "reports": [asdict(report) for report in reports],
        "missing_reports": missing_reports(reports),
        "files": [
            {"name": name, "bytes": entry["bytes"], "sha256": entry["sha256"]}
            for name, entry in sorted(bundle.manifest["files"].items())
        ],
    }


def missing_reports(reports: list[Report]) -> list[dict[str, str]]:
    """What a technical file of a model would be expected to have, was not given, and how it is made."""
    given = {report.kind for report in reports}
    return [
        {"kind": kind, "tells": tells, "command": command}
        for kind, (tells, command) in EXPECTED.items()
        if not given & set(STANDS_FOR.get(kind, (kind,)))
    ]


def _bom_fact(bom_file: tuple[str, str] | None) -> Fact:
    if bom_file is None:
        return Fact("file", "missing: it was not written beside this page; add -o NAME.cdx.json", MANIFEST)
    return Fact("file", f"{bom_file[0]}, sha256 {bom_file[1]}", BOM)
