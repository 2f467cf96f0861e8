"""Text files to lines and cells to numbers, with errors that name the place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import InputError

# Models take float32.
LARGEST = float(np.finfo(np.float32).max)
MISSING = frozenset({"", "na", "nan", "null", "none", "?"})


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 text file.

    Raises:
        InputError: binary, or of another encoding.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text; byte {error.start} is not.") from None
    if "\0" in text:
        raise InputError(f"{path} must be text; it holds NUL bytes.")
    return text.splitlines()


def to_floats(cells: Sequence[str], path: Path, place: Callable[[int], str]) -> npt.NDArray[np.float64]:
    """Numbers, NaN where a value is missing.

    Args:
        place: says where cell i stands, for the message.

    Raises:
        InputError: a cell that is neither a number nor missing, or is infinite.
    """
    try:
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        values = np.array([_to_float(cell, path, place, i) for i, cell in enumerate(cells)])
    infinite = np.isinf(values)
    if infinite.any():
        raise InputError(f"{path}, {place(int(infinite.argmax()))} must be finite; got infinity.")
    huge = np.abs(values) > LARGEST
    if huge.any():
        i = int(huge.argmax())
        raise InputError(f"{path}, {place(i)} must lie within +-{LARGEST:.3g}; got {values[i]:g}.")
    return values


def _to_float(cell: str, path: Path, place: Callable[[int], str], i: int) -> float:
    if cell.strip().lower() in MISSING:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{path}, {place(i)} must be a number; got {cell.strip()[:40]!r}.") from None
