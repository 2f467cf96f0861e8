"""An inspection as one HTML page that needs nothing but itself."""

from __future__ import annotations

from importlib import resources
from string import Template

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.inspection.finding import Piece
from edgesparse_runtime.data.inspection.inspect import Inspection
from edgesparse_runtime.measure.report import svg
from edgesparse_runtime.measure.report.page_text import page_text

_MOST_CHANNELS, _MOST_CLASSES, _MOST_POINTS = 12, 4, 400
_MOST_FINDINGS = 50
_STEP, _LEFT, _BAR = 22, 120, 14


def inspection_page(found: Inspection) -> str:
    """The page."""
    count = len(found.findings)
    words = "nothing looks wrong" if not count else f"{count} finding{'s' if count != 1 else ''}"
    sections = [_findings(found), _classes(found), *_channels(found), _timeline(found), _roles(found)]
    shortest, longest = found.steps
    lengths = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    rate = f" at {1 / found.period:.4g} Hz" if found.period else ""
    summary = f"{len(found.pieces):,} recordings in {found.files:,} file(s), {lengths} steps each{rate}."
    package = resources.files("edgesparse_runtime.measure.report")
    return Template(package.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        lang="en",
        title=page_text(f"{found.path.name}: {words}"),
        summary=page_text(summary),
        style=package.joinpath("page.css").read_text(encoding="utf-8"),
        sections="\n".join(section for section in sections if section),
    )


def _section(title: str, inner: str, note: str = "") -> str:
    sub = f'<p class="sub">{page_text(note)}</p>' if note else ""
    return f"<section><h2>{page_text(title)}</h2>{sub}{inner}</section>"


def _table(header: list[str], rows: list[list[object]]) -> str:
    head = "".join(f"<th>{page_text(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{page_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _findings(found: Inspection) -> str:
    if not found.findings:
        return '<section class="verdict">Nothing looks wrong.</section>'
    items = "".join(
        f"<li><b{' class=late' if f.stops else ''}>{page_text(f.kind)}</b> {page_text(f)}</li>"
        for f in found.findings[:_MOST_FINDINGS]
    )
    if rest := found.findings[_MOST_FINDINGS:]:
        items += f"<li>and {len(rest):,} more; <code>--json</code> lists all</li>"
    note = "What stops training is in color." if any(f.stops for f in found.findings) else ""
    return _section("What to look at", f"<ul>{items}</ul>", note)


def _classes(found: Inspection) -> str:
    groups = sorted({group for counts in found.classes.values() for group in counts})
    rows: list[list[object]] = [
        [label or "(no label)", *(counts.get(group, 0) for group in groups)]
        for label, counts in found.classes.items()
    ]
    return _section(
        "Recordings by class and group", _table(["class", *(g or "recordings" for g in groups)], rows)
    )


def _channels(found: Inspection) -> list[str]:
    """One chart per channel: the first recording of each class."""
    first: dict[str, Piece] = {}
    for piece in found.pieces:
        first.setdefault(piece.label, piece)
    shown = dict(list(first.items())[:_MOST_CLASSES])
    sections = []
    for i, channel in enumerate(found.channels[:_MOST_CHANNELS]):
        lines = {
            f"{label or 'recording'}: {piece.name}": _points(piece.values[i], found.period)
            for label, piece in shown.items()
        }
        lines = {name: points for name, points in lines.items() if points}
        if not lines:
            continue
        x_label, y_label = "seconds" if found.period else "step", channel.unit or "value"
        chart = "".join(
            f'<div class="{kind}">'
            + svg.curves(lines, x_label=x_label, y_label=y_label, marks=False, from_zero=False, width=width)
            + "</div>"
            for kind, width in (("wide", svg.WIDE), ("narrow", svg.NARROW))
        )
        note = (
            f"{channel.low:.4g} to {channel.high:.4g}, mean {channel.mean:.4g}, {channel.missing:.1%} missing"
        )
        sections.append(_section(channel.name, chart, note))
    return sections


def _points(row: FloatArray, period: float | None) -> list[tuple[float, float]]:
    """Steps with a value; of many, the lowest and the highest of each stretch."""
    index = np.arange(len(row))
    if len(row) > _MOST_POINTS:
        parts = [part for part in np.array_split(index, _MOST_POINTS // 2) if not np.isnan(row[part]).all()]
        ends = [(part[np.nanargmin(row[part])], part[np.nanargmax(row[part])]) for part in parts]
        index = np.unique(np.array(ends).reshape(-1)) if ends else index[:0]
    known = index[~np.isnan(row[index])]
    return [(float(i) * (period or 1.0), float(row[i])) for i in known]


def _timeline(found: Inspection) -> str:
    """When each group's recordings were made, in the color of their class."""
    timed = [p for p in found.pieces if p.times is not None and len(p.times)]
    if len(timed) < 2 or not found.time.startswith("date"):
        return ""
    labels = sorted({p.label for p in timed})
    groups = sorted({p.group for p in timed})
    low = min(float(np.min(p.times)) for p in timed if p.times is not None)
    high = max(float(np.max(p.times)) for p in timed if p.times is not None)
    room, height = svg.WIDE - _LEFT - 10, _STEP * len(groups) + 8
    parts = [
        f'<text class="name" x="{_LEFT - 8}" y="{16 + i * _STEP}">{page_text(group or "all")}</text>'
        for i, group in enumerate(groups)
    ]
    for piece in timed:
        assert piece.times is not None
        left = _LEFT + room * (float(piece.times.min()) - low) / max(high - low, 1e-9)
        wide = max(2.0, room * float(np.ptp(piece.times)) / max(high - low, 1e-9))
        color, top = f"mark c{labels.index(piece.label) % 4}", 4 + groups.index(piece.group) * _STEP
        title = f"<title>{page_text(piece.name)}: {page_text(piece.label or 'no label')}</title>"
        place = f'x="{left:.1f}" y="{top}" width="{wide:.1f}" height="{_BAR}"'
        parts.append(f'<rect class="{color}" {place}>{title}</rect>')
    keys = "".join(f'<span class="key c{i % 4}">{page_text(x)}</span>' for i, x in enumerate(labels) if x)
    frame = f'viewBox="0 0 {svg.WIDE} {height}" role="img" aria-label="recordings over time"'
    chart = f"<svg {frame}>{''.join(parts)}</svg>"
    return _section("When they were recorded", chart + f'<p class="legend">{keys}</p>', "A row per group.")


def _roles(found: Inspection) -> str:
    rows: list[list[object]] = [[role.column, role.role, role.reason] for role in found.roles]
    forms = "; ".join(f"{form} ({count} files)" for form, count in found.forms.items())
    note = "; ".join(part for part in (forms, found.time and f"time: {found.time}") if part)
    return _section("How it was read", _table(["column", "role", "why"], rows), note) if rows or note else ""
