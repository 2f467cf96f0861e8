"""How results look: tables on stdout, one versioned JSON object with `--json`, notes on stderr."""

from __future__ import annotations

import json
import sys
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
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        padded = [
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(padded).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one line per pair."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{escape_terminal(name).ljust(width)}  {escape_terminal(value)}")


def note(text: str) -> None:
    """Print a remark that is not a result to stderr."""
    print(escape_terminal(text), file=sys.stderr, flush=True)
