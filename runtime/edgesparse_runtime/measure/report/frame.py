"""What pages are made of: head, sections, tables, figures with captions; readable by all, and in print."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import resources
from string import Template

from edgesparse_runtime.measure.report.page_text import page_text


def page(
    title: str,
    summary: Sequence[str],
    verdict: str,
    reliable: bool,
    parts: Sequence[str],
    lang: str,
    *,
    style: str = "",
) -> str:
    """The whole page; `parts` are HTML, `style` is CSS, the rest is text."""
    state = "" if reliable else " missed"
    sections = [f'<section class="verdict{state}" role="status">{page_text(verdict)}</section>', *parts]
    return Template(resource("measure.report", "page.html")).substitute(
        lang=lang,
        title=page_text(title),
        summary=page_text(" ".join(summary)),
        style=resource("measure.report", "page.css") + resource("measure.report", "document.css") + style,
        sections="\n".join(part for part in sections if part),
    )


def section(title: str, sentences: Sequence[str], *content: str) -> str:
    """One part of the page; `content` is HTML."""
    lines = "".join(f'<p class="sub">{page_text(line)}</p>' for line in sentences if line)
    return f"<section><h2>{page_text(title)}</h2>{lines}{''.join(content)}</section>"


def figure(caption: str, picture: str) -> str:
    """A picture with its caption."""
    return f"<figure>{picture}<figcaption>{page_text(caption)}</figcaption></figure>"


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    late: Collection[int] = (),
    shows_caption: bool = True,
) -> str:
    """A table that scrolls, by keyboard too, where it is wider than the page.

    Args:
        late: rows that are marked.
        shows_caption: False = only a screen reader has it: a heading says the same.
    """
    top = "".join(f'<th scope="col">{page_text(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr{" class=late" if i in late else ""}><th scope="row">{page_text(row[0])}</th>'
        + "".join(f"<td>{page_text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for i, row in enumerate(rows)
    )
    kind = "" if shows_caption else ' class="unseen"'
    label = page_text(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<caption{kind}>{label}</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def signed(value: float | None) -> str:
    """A figure with its sign; a dash where there is none."""
    return "–" if value is None else f"{value:+.3g}"


def resource(room: str, name: str) -> str:
    """A file that is installed with the package."""
    return resources.files(f"edgesparse_runtime.{room}").joinpath(name).read_text("utf-8")
