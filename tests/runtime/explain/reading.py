"""What a page says: its text and tags, and whether a figure of it is in a result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?")


_HIDDEN = ("svg", "style", "script", "code")


class Texts(HTMLParser):
    """Text outside pictures, style, script and code, and the tags seen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag in _HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def figures(value: Any, key: str = "") -> Iterator[float]:
    """Every number of a result; ends as the last step that they hold; sixteenths as percent."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from figures(inner, name)
    elif isinstance(value, list):
        yield from range(len(value))
        for inner in value:
            yield from figures(inner, key)
    elif isinstance(value, (int, float)):
        yield value - 1 if key == "end" else value


def is_figure(token: str, known: list[float]) -> bool:
    plain = token.replace(",", "")
    percent, number = plain.endswith("%"), plain.rstrip("%")
    digits = len(number.partition(".")[2].partition("e")[0])
    value = float(number)
    for figure in known:
        shown = 100 * figure if percent else figure
        rounded = {float(f"{shown:.{digits}f}")} | {float(f"{shown:.{p}g}") for p in (2, 3, 4)}
        if value in rounded:
            return True
    return False
