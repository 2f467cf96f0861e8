"""How results look: tables on stdout, one versioned JSON object with `--json`, notes on stderr."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from edgesparse_runtime.data.escape import escape_terminal

JSON_VERSION = 1


def print_json(verb: str, content: dict[str, Any]) -> None:
    """Print one JSON object that names its schema."""
    print(json.dumps({"schema": f"edgesparse.{verb}/{JSON_VERSION}", **content}, indent=2))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as needed; numbers right-aligned."""
    cells = [[escape_terminal(c) for c in row] for row in [header, *rows]]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [_pad(c, w, is_left=i == 0) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(padded).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one line per pair."""
    width = max(map(_width, fields), default=0)
    for name, value in fields.items():
        print(f"{_pad(escape_terminal(name), width, is_left=True)}  {escape_terminal(value)}")


def _width(text: str) -> int:
    """Columns of a terminal that it takes: two per East Asian wide character, none per combining mark."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _pad(text: str, width: int, *, is_left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if is_left else space + text


def note(text: str) -> None:
    """Print a remark that is not a result to stderr."""
    print(escape_terminal(text), file=sys.stderr, flush=True)
