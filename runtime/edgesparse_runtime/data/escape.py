"""One escaping function for each kind of output; text of other people is data there, never syntax.

What is written as JSON, CSV or HTML goes through the library of that form first; these are for what the form
itself lets pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def escape_terminal(text: object) -> str:
    """One line for a terminal or a log: what does not print, or changes how the rest prints, as an escape.

    Line breaks, escape sequences, right-to-left marks and lone surrogates come out as `\\n`, `\\x1b`,
    `\\u202e` and `\\ud800`.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in plain)


def escape_csv_cell(text: object) -> str:
    """A cell that no spreadsheet runs: a quote goes before what would be a formula; numbers stay."""
    plain = escape_terminal(text)
    if not plain.lstrip().startswith(_FORMULA_STARTS) or _is_number(plain):
        return plain
    return "'" + plain


def escape_csv_row(values: Iterable[object]) -> list[object]:
    """A row with its texts escaped; numbers are not texts."""
    return [escape_csv_cell(value) if isinstance(value, str) else value for value in values]


def quote_yaml(text: object) -> str:
    """A YAML scalar in double quotes; also a JSON string, and an argument of a Dockerfile's JSON form."""
    return json.dumps(str(text))


def quote_pbtxt(text: str) -> str:
    """A string of protobuf's text form."""
    found = []
    for byte in text.encode("utf-8", "surrogateescape"):
        char = chr(byte)
        found.append(f"\\{char}" if char in '"\\' else char if 32 <= byte < 127 else f"\\{byte:03o}")
    return f'"{"".join(found)}"'


def unquote_pbtxt(quoted: str) -> str:
    """The text of a string that `quote_pbtxt` wrote."""
    content, found, at = quoted[1:-1], bytearray(), 0
    while at < len(content):
        if content[at] != "\\":
            found += content[at].encode()
            at += 1
        elif content[at + 1 : at + 2].isdigit():
            found.append(int(content[at + 1 : at + 4], 8) & 255)
            at += 4
        else:
            found += content[at + 1 : at + 2].encode()
            at += 2
    return found.decode("utf-8", "surrogateescape")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
