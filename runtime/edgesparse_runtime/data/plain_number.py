"""What is a number in a file: plain decimals, not whatever a programming language takes for one.

`1_000` is a name (Python would read a thousand), and so are `0x1F`, `1e` and digits of other scripts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from edgesparse_runtime.arrays import DoubleArray

PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Infinity is a number that is refused by name.
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
# "1,000" and "12,345,678.9" may be thousands; "0,02" and "1234,5" cannot.
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
# "1.299,99" has both: points between thousands, then a decimal comma.
_POINT_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?P<decimals>,[0-9]+)?")


def is_plain(text: str) -> bool:
    """True for a decimal number, blanks around it aside."""
    return PLAIN.fullmatch(text.strip()) is not None


def is_number_with_marks(text: str) -> bool:
    """True for digits with commas and points anywhere among them."""
    return is_plain(text.replace(",", "").replace(".", ""))


def to_plain(text: str) -> float:
    """The number that `text` writes.

    Raises:
        ValueError: it is not a plain decimal.
    """
    stripped = text.strip()
    if PLAIN.fullmatch(stripped) is None and _INFINITE.fullmatch(stripped) is None:
        raise ValueError(f"not a number: {text!r}")
    return float(stripped)


def to_plain_array(values: Sequence[object]) -> DoubleArray | None:
    """All of them at once, NaN included; None where one is no plain decimal (then ask one by one)."""
    if not all(isinstance(value, str) for value in values):
        return None
    joined = "".join(values)  # type: ignore[arg-type]
    if "_" in joined or not joined.isascii():
        return None
    try:
        return np.array(values, dtype=np.float64)
    except ValueError:
        return None


def comma_is(cells: list[str]) -> str:
    """What the commas in number cells are.

    Returns:
        "thousands", "decimal", "decimal, point groups" (1.299,99), "" (none is a number with a comma), or
        "unclear" (each could be both).
    """
    stripped = [cell.strip() for cell in cells]
    with_comma = [cell for cell in stripped if "," in cell]
    with_point = [cell for cell in stripped if "." in cell]
    if not with_comma:
        return ""
    may_group = all(map(_THOUSANDS.fullmatch, with_comma))
    may_point = all(map(_DECIMAL_COMMA.fullmatch, with_comma)) and not with_point
    if may_group and may_point:
        return "unclear"
    if may_group:
        return "thousands"
    if may_point:
        return "decimal"
    return "decimal, point groups" if _has_point_groups(with_comma, with_point) else ""


def _has_point_groups(with_comma: list[str], with_point: list[str]) -> bool:
    """Whether one cell has both marks, and every other one can be read in the same way."""
    groups = [_POINT_GROUPS.fullmatch(cell) for cell in with_point]
    if not all(groups) or not any(found and found["decimals"] for found in groups):
        return False
    return all("." in cell or _DECIMAL_COMMA.fullmatch(cell) for cell in with_comma)


def without_commas(text: str, meaning: str) -> str:
    """`text` as a plain decimal, under what `comma_is` found."""
    if meaning == "thousands":
        return text.replace(",", "")
    if meaning == "decimal, point groups":
        text = text.replace(".", "")
    return text.replace(",", ".") if meaning else text
