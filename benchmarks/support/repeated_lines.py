"""Counts places with six or more repeated lines: `python -m benchmarks.support.repeated_lines [FOLDER]`.

The project's Python and C++ files are read. A line is stripped of surrounding space; blank lines,
comments and imports are left out, and so are Python's docstrings; every string counts as one string and
every number as one number. Six lines in a row that hold at least 120 characters and occur anywhere else
are repeated; a place is a longest run of such lines in one file. A passage that three files share therefore
counts as three places.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.layout import tracked_files

LINES = 6
LEAST_CHARACTERS = 120
SUFFIXES = (".py", ".cc", ".h")
_STRING = re.compile(r'f?r?"[^"]*"')
_NUMBER = re.compile(r"\b\d[\w.]*")
_LEFT_OUT = ("#", "//", "import ", "from ", "/*", "*")


@dataclass(frozen=True)
class Place:
    """A longest run of repeated lines of one file, by the numbers of its first and last line."""

    path: str
    first: int
    last: int
    lines: int


def count_places(root: Path) -> list[Place]:
    files = {path: read_lines(root / path) for path in tracked_files(root) if path.endswith(SUFFIXES)}
    windows: Counter[tuple[str, ...]] = Counter()
    for lines in files.values():
        windows.update(_windows(lines))
    return [place for path, lines in files.items() for place in _places(path, lines, windows)]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that counts."""
    text = path.read_text(encoding="utf-8")
    documented = _docstring_lines(text) if path.suffix == ".py" else set()
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line and number not in documented and not line.startswith(_LEFT_OUT):
            line = _NUMBER.sub("0", _STRING.sub('""', line))
            found.append((number, line))
    return found


def _docstring_lines(text: str) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node.value.value, str):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _windows(lines: list[tuple[int, str]]) -> list[tuple[str, ...]]:
    texts = [text for _, text in lines]
    found = [tuple(texts[i : i + LINES]) for i in range(len(texts) - LINES + 1)]
    return [window if sum(map(len, window)) >= LEAST_CHARACTERS else () for window in found]


def _places(path: str, lines: list[tuple[int, str]], windows: Counter[tuple[str, ...]]) -> list[Place]:
    places = []
    start: int | None = None
    repeated = [bool(window) and windows[window] > 1 for window in _windows(lines)]
    for i, is_repeated in enumerate([*repeated, False]):
        if is_repeated and start is None:
            start = i
        elif not is_repeated and start is not None:
            last = i + LINES - 2
            places.append(Place(path, lines[start][0], lines[last][0], last - start + 1))
            start = None
    return places


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    places = sorted(count_places(root), key=lambda place: (-place.lines, place.path))
    for place in places:
        print(f"{place.path}:{place.first}-{place.last}: {place.lines} lines")
    print(f"{len(places)} places, {sum(place.lines for place in places)} lines")


if __name__ == "__main__":
    main()
