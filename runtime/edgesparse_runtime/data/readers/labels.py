"""Label cells to class names or targets, the same for every form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.plain_number import to_plain
from edgesparse_runtime.data.readers.options import Task
from edgesparse_runtime.data.readers.text import is_missing
from edgesparse_runtime.errors import InputError

Labels = npt.NDArray[np.str_] | npt.NDArray[np.float64]
# Whole numbers as people and programs write them; 007 is a name, and so are 1_1 and 1e3.
_WHOLE = re.compile(r"([+-]?)(0|[1-9][0-9]*)(?:\.0*)?")
# As C prints them, in old files of the UCR archive: 2.0000000e+00.
_PRINTED = re.compile(r"[+-]?[0-9]\.[0-9]+e[+-][0-9]{2}")


def to_labels(
    values: Sequence[object],
    task: Task,
    where: Path,
    place: Callable[[int], str] = lambda i: f"series {i + 1}",
) -> Labels:
    """Class names (1.0 becomes "1"), or finite float targets.

    Args:
        place: says which series entry i belongs to, for the message.

    Raises:
        InputError: a missing label, or a target that is no number.
    """
    if task == "regression":
        return np.array([to_target(value, where, place(i)) for i, value in enumerate(values)])
    names = [class_name(value) for value in values]
    for i, name in enumerate(names):
        if not name:
            raise InputError(f"{where}: label of {place(i)} must not be empty; got {str(values[i])!r}.")
    return np.array(names, dtype=np.str_)


def to_target(value: object, where: Path, place: str) -> float:
    """A finite number.

    Raises:
        InputError: anything else.
    """
    try:
        target = to_plain(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        target = np.nan
    if not np.isfinite(target):
        raise InputError(f"{where}: target of {place} must be a number; got {value!r}.")
    return target


def class_name(value: object) -> str:
    """A class as it is written, "" where the label is missing.

    Whole numbers lose their decimals, so that 1, 1.0 and "1" are one class; no other text is taken for a
    number. Bytes are UTF-8; both ways to write an umlaut are one (NFC).
    """
    if is_missing(value):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace").rstrip("\0")
    text = unicodedata.normalize("NFC", str(value).strip())
    if is_missing(text):
        return ""
    whole = _WHOLE.fullmatch(f"{float(text):.17g}" if _PRINTED.fullmatch(text) else text)
    if whole is None:
        return text
    return whole[2] if whole[1] != "-" or whole[2] == "0" else f"-{whole[2]}"
