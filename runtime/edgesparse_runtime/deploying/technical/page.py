"""A technical file as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgesparse_runtime.measure.report.frame import page, resource, section, table
from edgesparse_runtime.measure.report.page_text import page_text

ROOM = "deploying.technical"
_ABOUT = (
    "A help to fill the technical documentation of Regulation (EU) 2024/2847, the Cyber Resilience Act: its "
    "Article 31 and Annex VII. It is no legal advice and no declaration of conformity.",
    "It covers one model and what runs it. Whether the product falls under the regulation, and what else its "
    "documentation must contain, is for the manufacturer to decide.",
    "The regulation applies from 11 December 2027, the reporting of vulnerabilities and incidents "
    "(Article 14) from 11 September 2026. The documentation is kept for at least 10 years after the "
    "product was placed on the market, or for the support period, whichever is longer (Article 13 (13)).",
)


def technical_page(facts: dict[str, Any]) -> str:
    """The page of what `technical_facts` found."""
    missing, filled = len(facts["open"]), facts["entries"] - len(facts["open"])
    held = (
        "The bundle reproduces its recorded answers on this machine."
        if facts["holds"]
        else "The bundle does NOT reproduce its recorded answers on this machine: see point 6."
    )
    told = f"{filled} of {facts['entries']} entries of the manufacturer are filled in"
    verdict = f"Incomplete: {told}; {missing} are marked below." if missing else f"{told}."
    parts = [section("What this page is", _ABOUT)]
    parts += [_point(number, point, facts) for number, point in facts["points"].items()]
    return page(
        f"Technical documentation: {facts['bundle']}",
        [
            f"Written {facts['written']} by EdgeSparse {facts['edgesparse']}, from the bundle's manifest, "
            "its bill of materials, its golden vectors, and the reports that were given."
        ],
        f"{verdict} {held}",
        not missing and facts["holds"],
        parts,
        "en",
        style=resource(ROOM, "technical.css"),
    )


def _point(number: str, point: dict[str, Any], facts: dict[str, Any]) -> str:
    content = [_facts(point["facts"])]
    if number == "2 (a)":
        content.append(_files(facts["files"]))
    if number == "6":
        content += [_report(report) for report in facts["reports"]]
        content.append(_missing(facts["missing_reports"]))
    content.append(_entries(point["entries"]))
    if number == "3":
        content.append(_requirements(facts["requirements"]))
    return section(f"{number}  {point['title']}", [], *content)


def _facts(rows: Sequence[dict[str, str]]) -> str:
    items = "".join(
        f"<dt>{page_text(row['what'])}</dt><dd>{page_text(row['value'])} "
        f'<span class="from">({page_text(row["source"])})</span></dd>'
        for row in rows
    )
    return f"<dl>{items}</dl>" if items else ""


def _files(rows: Sequence[dict[str, Any]]) -> str:
    cells = [[row["name"], f"{row['bytes']:,}", row["sha256"]] for row in rows]
    return table("Files of the bundle (manifest.json)", ["file", "bytes", "sha256"], cells)


def _requirements(rows: Sequence[dict[str, str]]) -> str:
    """Annex I, Part I (2): requirement, what the software contributes, and the manufacturer's assessment."""
    items = "".join(
        f"<li><h3>({row['letter']}) {page_text(row['text'])}</h3><p>{page_text(row['provided'])}</p>"
        + _entry(row["key"], "Whether it applies to the product, and how it is met.", row["stated"])
        + "</li>"
        for row in rows
    )
    title = "Annex I, Part I (2): what EdgeSparse contributes to each requirement"
    return f'<h3>{title}</h3><ul class="plain">{items}</ul>'


def _report(report: dict[str, Any]) -> str:
    rows = [{"what": what, "value": value, "source": report["name"]} for what, value in report["figures"]]
    ties = f"{report['name']}: {report['ties']}. sha256 {report['sha256']}"
    return (
        f"<h3>Report of edgesparse {page_text(report['kind'])}</h3>"
        f'<p class="sub">{page_text(ties)}</p>{_facts(rows)}'
    )


def _missing(rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return ""
    items = "".join(
        f"<li>{page_text(row['tells'])}: <code>{page_text(row['command'])}</code></li>" for row in rows
    )
    return (
        "<h3>Missing: no report was given of</h3>"
        f'<ul class="notes">{items}</ul><p class="sub">Write each to a file, and give it with --report.</p>'
    )


def _entries(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(_entry(row["key"], row["wanted"], row["stated"]) for row in rows)


def _entry(key: str, wanted: str, stated: str | None) -> str:
    if stated is None:
        return (
            '<p class="entry open"><b>To be filled in by the manufacturer</b> '
            f"<code>{page_text(key)}</code><br>{page_text(wanted)}</p>"
        )
    lines = "<br>".join(page_text(line) for line in stated.splitlines())
    return (
        f'<div class="entry"><b>Stated by the manufacturer</b> <code>{page_text(key)}</code>'
        f'<p class="sub">{page_text(wanted)}</p><p>{lines}</p></div>'
    )
