"""Text files to lines and cells to numbers, with errors that name the place."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.data.column_names import without_marks
from edgesparse_runtime.data.plain_number import (
    comma_is,
    is_number_with_marks,
    is_plain,
    to_plain,
    to_plain_array,
    without_commas,
)
from edgesparse_runtime.errors import InputError

# Models take float32.
LARGEST = float(np.finfo(np.float32).max)
# The ways to write a missing value or label, in any case.
MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "<na>", "nat"})
TRUTH = {"true": 1.0, "false": 0.0}
# Encodings that a hint can name; tried in this order.
_OTHER_ENCODINGS = ("cp932", "gb18030", "cp1252")
_MOST_LOOKED_AT = 100_000
_FOREIGN = re.compile(r"([\x00-\x7f]?)([^\x00-\x7f]+)(?=([\x00-\x7f]?))")
_DELIMITERS = re.compile(r'[,;\t\r\n"]')
_LOWER = re.compile(r"[a-z]")
# Single signs of a byte each, such as a degree sign read as Japanese.
_HALF_WIDTH = re.compile(r"[\uff61-\uff9f]{1,2}")


def is_missing(value: object) -> bool:
    """True for None, NaN and the usual words for a missing value."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def read_text(path: Path, encoding: str | None = None) -> str:
    """A text file in UTF-8, in UTF-16 with its mark, or else in `encoding`.

    Raises:
        InputError: binary, or of another encoding.
    """
    return read_encoded(path, encoding)[0]


def read_encoded(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """The text of a file, and the encoding that it is in."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(content) % 2 == 0:
        try:
            return without_marks(content.decode("utf-16")), "UTF-16"
        except UnicodeDecodeError:
            pass
    if b"\0" in content:
        raise InputError(f"{path} must be text; it holds NUL bytes.")
    try:
        return without_marks(content.decode("utf-8")), "UTF-8"
    except UnicodeDecodeError as error:
        if encoding is not None:
            return _decoded(content, path, encoding), encoding.upper()
        hint = f" {_conversion(content, path)}"
        raise InputError(f"{path} must be UTF-8 text; byte {error.start} is not.{hint}") from None


def _decoded(content: bytes, path: Path, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} must be text in UTF-8 or {encoding.upper()}; byte {error.start} is not."
        ) from None


def _conversion(content: bytes, path: Path) -> str:
    """How to convert the file, by the first encoding that reads it as words, and what it reads then."""
    is_western = False
    for name in _OTHER_ENCODINGS:
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        is_western = is_western or _is_western(text)
        if is_western and name != _OTHER_ENCODINGS[-1]:
            continue
        return (
            f"If it is {name.upper()}: iconv -f {name.upper()} -t UTF-8 {path.name} > "
            f"converted{path.suffix}, or --encoding {name}, which reads {_foreign_cell(text)!r}."
        )
    return "Save it as UTF-8."


def _foreign_cell(text: str) -> str:
    """The first cell that is not ASCII, or its part around that."""
    at = next((i for i, c in enumerate(text) if not c.isascii()), 0)
    before, after = _DELIMITERS.split(text[max(0, at - 40) : at])[-1], text[at : at + 40]
    return (before + _DELIMITERS.split(after)[0]).strip()


def _is_western(text: str) -> bool:
    """True where an Eastern encoding gives signs inside of Western words: M醇quina instead of Máquina."""
    found = _FOREIGN.findall(text[:_MOST_LOOKED_AT])
    odd = sum(
        bool(_LOWER.fullmatch(before) or _LOWER.fullmatch(after) or _HALF_WIDTH.fullmatch(run))
        for before, run, after in found
    )
    return 2 * odd > len(found)


def read_lines(path: Path, encoding: str | None = None) -> list[str]:
    """Lines of a text file, as editors count them."""
    text = read_text(path, encoding).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def comma_of(columns: Sequence[Sequence[Any]], path: Path) -> str:
    """What commas in the numbers of these columns are, as `comma_is` names it; "" where there are none.

    Raises:
        InputError: they could be both.
    """
    columns = [column for column in columns if not isinstance(column, np.ndarray)]
    cells = [c.strip() for column in columns for c in column if isinstance(c, str) and "," in c]
    if not cells or not all(is_number_with_marks(cell) for cell in cells):
        return ""
    points = [
        c.strip() for column in columns for c in column if isinstance(c, str) and "." in c and "," not in c
    ]
    meaning = comma_is(cells + [c for c in points if is_number_with_marks(c)])
    if meaning == "unclear":
        raise InputError(
            f"{path}: numbers must have a decimal point; {cells[0]!r} may be a thousand or a decimal."
        )
    return meaning


def to_floats(cells: Sequence[Any], path: Path, place: Callable[[int], str], comma: str = "") -> DoubleArray:
    """Numbers, NaN where a value is missing.

    Args:
        place: says where cell i stands, for the message.
        comma: what commas are, as `comma_of` found.

    Raises:
        InputError: a cell that is neither a number nor missing, or is infinite.
    """
    if isinstance(cells, np.ndarray):
        values = _numbers(cells)
    else:
        values = None if comma else to_plain_array(cells)
    if values is None:
        if _are_truths(cells):
            return np.array([TRUTH.get(str(cell).strip().lower(), np.nan) for cell in cells])
        values = np.array([_to_float(cell, path, place, i, comma) for i, cell in enumerate(cells)])
    infinite = np.isinf(values)
    if infinite.any():
        raise InputError(f"{path}, {place(int(infinite.argmax()))} must be finite; got infinity.")
    huge = np.abs(values) > LARGEST
    if huge.any():
        i = int(huge.argmax())
        raise InputError(f"{path}, {place(i)} must lie within +-{LARGEST:.3g}; got {values[i]:g}.")
    return values


def _numbers(cells: npt.NDArray[Any]) -> DoubleArray | None:
    return cells.astype(np.float64) if cells.dtype.kind in "fiub" else None


def _are_truths(cells: Sequence[Any]) -> bool:
    """A column of true and false only, missing ones aside: the switch of a machine."""
    seen = {str(cell).strip().lower() for cell in cells if not is_missing(cell)}
    return bool(seen) and seen <= set(TRUTH)


def _to_float(cell: Any, path: Path, place: Callable[[int], str], i: int, comma: str) -> float:
    if is_missing(cell):
        return np.nan
    try:
        return to_plain(without_commas(cell, comma)) if isinstance(cell, str) else float(cell)
    except (TypeError, ValueError, OverflowError):
        shown = str(cell).strip()[:40]
        hint = " Write a decimal point." if "," in shown and is_plain(shown.replace(",", "")) else ""
        raise InputError(f"{path}, {place(i)} must be a number; got {shown!r}.{hint}") from None
