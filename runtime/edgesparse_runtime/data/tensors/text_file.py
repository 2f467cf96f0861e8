"""Texts from a file: one per line, or JSON lines with a field `text`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.errors import InputError

SUFFIXES = (".txt", ".text", ".jsonl", ".ndjson")
_JSON = (".jsonl", ".ndjson")
# As `edgesparse run` names a series: by its own name or its number.
_NAMES = ("id", "_id")


@dataclass(frozen=True)
class NamedText:
    """A text of a file; its name is its `id`, or the number of its line."""

    name: str | int
    text: str


def read_texts(path: Path) -> list[NamedText]:
    """The texts of a file; empty lines are left out.

    Raises:
        InputError: another kind of file, not UTF-8, no texts, or a line that is not what it should be.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path} must be text, one per line ({', '.join(SUFFIXES[:2])}), or JSON lines with a field "
            f"`text` ({', '.join(_JSON)}); got {suffix or 'no ending'}."
        )
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be text in UTF-8; byte {error.start} is not.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read; {error.strerror}.") from None
    # Only line feeds end a line: a text may hold other separators of Unicode.
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(content.split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line.strip()]
    if not lines:
        raise InputError(f"{path} must hold at least one text; it is empty.")
    if suffix in _JSON:
        return [_from_json(path, number, line) for number, line in lines]
    return [NamedText(number, line) for number, line in lines]


def _from_json(path: Path, number: int, line: str) -> NamedText:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise InputError(f'{path}: line {number} must be a JSON object with a text, {{"text": "..."}}.')
    name = next((value[key] for key in _NAMES if key in value), number)
    return NamedText(name if type(name) is int else str(name), value["text"])
