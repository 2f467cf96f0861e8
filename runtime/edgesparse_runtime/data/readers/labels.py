"""Label cells to class names or targets, the same for every form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import InputError

Labels = npt.NDArray[np.str_] | npt.NDArray[np.float64]


def to_labels(
    values: Sequence[object],
    task: Literal["classification", "regression"],
    where: Path,
    place: Callable[[int], str] = lambda i: f"series {i + 1}",
) -> Labels:
    """Class names (1.0 becomes "1"), or finite float targets.

    Args:
        place: says which series entry i belongs to, for the message.

    Raises:
        InputError: an empty label, or a target that is no number.
    """
    if task == "regression":
        targets = np.empty(len(values), dtype=np.float64)
        for i, value in enumerate(values):
            try:
                targets[i] = float(str(value))
            except ValueError:
                targets[i] = np.nan
            if not np.isfinite(targets[i]):
                raise InputError(f"{where}: target of {place(i)} must be a number; got {value!r}.")
        return targets
    names = [class_name(value) for value in values]
    for i, name in enumerate(names):
        if not name or name == "nan":
            raise InputError(f"{where}: label of {place(i)} must not be empty.")
    return np.array(names, dtype=np.str_)


def class_name(value: object) -> str:
    """A class as it is written; whole numbers lose their decimals, so that 1, 1.0 and "1" are one class."""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else text
