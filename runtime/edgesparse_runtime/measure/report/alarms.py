"""The signals of an alarm before and after, as an HTML page or an SVG file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from edgesparse_runtime.data.escape import escape_terminal
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.report import svg
from edgesparse_runtime.measure.report.page_text import page_text
from edgesparse_runtime.stream.monitor.alarm import Alarm, Carrier

FORMS = (".html", ".svg")
_MOST_ALARMS = 20
_TITLE = 28


def check_picture(path: Path) -> None:
    """Refuse a file name before anything is computed.

    Raises:
        InputError: another ending.
    """
    if path.suffix not in FORMS:
        raise InputError(f"`--output` must end in {' or '.join(FORMS)}; got {path.name}.")


def draw_alarms(alarms: Sequence[Alarm], form: str, name: str) -> str:
    """Per alarm, the distribution of each signal that carries it, in the reference and now.

    Args:
        form: ".html" or ".svg".
        name: of the model.
    """
    title = f"{escape_terminal(name)}: {len(alarms)} alarm{'' if len(alarms) == 1 else 's'}"
    shown = alarms[:_MOST_ALARMS]
    return _page(shown, title) if form == ".html" else _drawing(shown, title)


def _page(alarms: Sequence[Alarm], title: str) -> str:
    sections = []
    for alarm in alarms:
        charts = "".join(
            f"<h3>{page_text(_heading(c))}</h3>"
            f'<div class="wide">{_chart(c, svg.WIDE)}</div><div class="narrow">{_chart(c, svg.NARROW)}</div>'
            for c in alarm.carriers
        )
        sections.append(f"<section><h2>{page_text(alarm)}</h2>{charts}</section>")
    summary = "Share of windows below each value: before, in the reference; after, in the latest windows."
    return Template(_resource("page.html")).substitute(
        lang="en",
        title=page_text(title),
        summary=page_text(summary),
        style=_resource("page.css"),
        sections="\n".join(sections),
    )


def _drawing(alarms: Sequence[Alarm], title: str) -> str:
    y, parts = _TITLE, [_text(title, 18)]
    for alarm in alarms:
        parts.append(_text(escape_terminal(alarm), y + 18))
        y += _TITLE
        for carrier in alarm.carriers:
            parts.append(_text(_heading(carrier), y + 18))
            y += _TITLE
            chart = _chart(carrier, svg.WIDE).partition("</svg>")[0] + "</svg>"
            place = f'<svg x="0" y="{y}" width="{svg.WIDE}" height="{svg.HEIGHT}" '
            parts.append(chart.replace("<svg ", place, 1))
            y += svg.HEIGHT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {svg.WIDE} {y + _TITLE}">'
    style = f"<style>{_resource('page.css')}</style>"
    return f"{head}{style}{''.join(parts)}</svg>\n"


def _text(text: str, y: int) -> str:
    return f'<text x="8" y="{y}">{page_text(text)}</text>'


def _heading(carrier: Carrier) -> str:
    return f"{escape_terminal(carrier)}, {carrier.share:.0%} of the evidence"


def _chart(carrier: Carrier, width: int) -> str:
    """Two cumulative curves."""
    series = {
        name: [(value, (i + 0.5) / len(values)) for i, value in enumerate(sorted(values))]
        for name, values in (("before", carrier.reference), ("after", carrier.recent))
        if values
    }
    label = escape_terminal(carrier.signal)
    return svg.curves(series, x_label=label, y_label="share of windows below", marks=False, width=width)


def _resource(name: str) -> str:
    return resources.files("edgesparse_runtime.measure.report").joinpath(name).read_text("utf-8")
