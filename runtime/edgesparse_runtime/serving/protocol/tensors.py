"""Tensors of the Open Inference Protocol: numbers of a request to an array, checked before it is allocated.

Shape legend: n windows, c channels, t steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.serving.protocol.refusal import Refusal

FloatArray = npt.NDArray[np.float32]
_NUMBERS = {int, float, type(None)}


@dataclass(frozen=True)
class WindowBounds:
    """Limits of a model's input `window` [n, c, t].

    Attributes:
        channels: c; None when the model takes any number.
        min_steps, max_steps: of t.
        most_windows: of n.
    """

    channels: int | None
    min_steps: int
    max_steps: int
    most_windows: int

    def check_shape(self, shape: object) -> tuple[int, int, int]:
        """The shape, if it fits.

        Raises:
            Refusal: 400.
        """
        sizes = [_whole(size) for size in shape] if isinstance(shape, list) and len(shape) == 3 else [0, 0, 0]
        n, c, t = sizes
        fits = (
            1 <= n <= self.most_windows
            and c >= 1
            and (self.channels is None or c == self.channels)
            and self.min_steps <= t <= self.max_steps
        )
        if not fits:
            channels = "channels" if self.channels is None else self.channels
            raise Refusal(
                400,
                f"Input `window` must have shape [1 to {self.most_windows}, {channels}, "
                f"{self.min_steps} to {self.max_steps}]; got {str(shape)[:80]}.",
            )
        return n, c, t


def _whole(size: object) -> int:
    """A size; 0, which never fits, for anything else. JSON has one kind of number: 8.0 is 8."""
    if isinstance(size, float) and size.is_integer():
        return int(size)
    return size if type(size) is int else 0


def read_numbers(data: object, shape: tuple[int, int, int]) -> FloatArray:
    """`data` of a JSON tensor, flat or nested like `shape`; null = missing value.

    Raises:
        Refusal: 400 when it holds anything but numbers, 422 when their count does not fit `shape`.
    """
    flat = _flatten(data, shape)
    if len(flat) != math.prod(shape):
        raise Refusal(
            422, f"`data` must hold {math.prod(shape)} numbers for shape {list(shape)}; got {len(flat)}."
        )
    if not set(map(type, flat)) <= _NUMBERS:
        raise Refusal(400, "`data` must hold numbers, or null for a missing value.")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=np.float32).reshape(shape)
    except (OverflowError, ValueError):
        raise Refusal(400, "`data` must hold numbers that fit 32-bit floating point.") from None


def _flatten(data: object, shape: Sequence[int]) -> list[Any]:
    """Rows of a nested list, concatenated; a flat list as it is."""
    if not isinstance(data, list):
        raise Refusal(400, "`data` must be a list of numbers.")
    return _join(data, shape) if data and type(data[0]) is list else data


def _join(data: list[Any], shape: Sequence[int]) -> list[Any]:
    if len(data) != shape[0]:
        raise Refusal(
            422, f"`data` must be nested like `shape`; got {len(data)} entries where {shape[0]} belong."
        )
    if len(shape) == 1:
        return data
    flat: list[Any] = []
    for row in data:
        if type(row) is not list:
            raise Refusal(400, "`data` must be a flat list of numbers, or lists nested like `shape`.")
        flat.extend(_join(row, shape[1:]))
    return flat


def read_bytes(content: memoryview, shape: tuple[int, int, int]) -> FloatArray:
    """Little-endian FP32 of a binary tensor; its length was checked against `shape`."""
    return np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False).reshape(shape)


def check_finite(window: FloatArray) -> None:
    """Infinity is refused; NaN = missing value.

    Raises:
        Refusal: 400.
    """
    flat = window.ravel()
    # The sum of squares is finite for nearly every good window, and much faster to compute.
    with np.errstate(over="ignore", invalid="ignore"):
        is_plain = math.isfinite(float(np.dot(flat, flat)))
    if not is_plain and np.isinf(flat).any():
        raise Refusal(
            400, "Input `window` must be finite; got infinity. Use NaN or null for a missing value."
        )
