"""Numbers in memory to float32: what is not a number is refused, whatever numpy would make of it."""

from __future__ import annotations

from os import PathLike

import numpy as np

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.errors import InputError

_NUMBERS = "biuf"


def to_float32(value: object, what: str, shape: str) -> FloatArray:
    """`value` as a float32 array; masked entries and None are NaN.

    Args:
        what: the subject of the message.
        shape: what was expected, for the message: "[batch, channels, time]".

    Raises:
        InputError: text, times, complex numbers or other objects; rows of different lengths; a tensor that
            does not give its values away.
    """
    if isinstance(value, (str, PathLike)):
        raise InputError(f"{what} must be numbers {shape}; got a path. Read files with read_dataset.")
    try:
        array = np.ma.asanyarray(value) if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    except ValueError:
        raise InputError(f"{what} must be numbers {shape}; its rows have different lengths.") from None
    except (TypeError, RuntimeError) as error:
        # A tensor that requires gradients, or lies on another device, says so itself.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{what} must be numbers {shape}; {reason[:160]}.") from None
    if array.dtype.kind == "O":
        try:
            array = np.array(array, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{what} must be numbers {shape}; got objects.") from None
    if array.dtype.kind not in _NUMBERS:
        raise InputError(f"{what} must be numbers {shape}; got {array.dtype}.")
    # A float64 beyond float32 becomes infinite, which is refused by name.
    with np.errstate(over="ignore"):
        if isinstance(array, np.ma.MaskedArray):
            array = np.ma.filled(array.astype(np.float32), np.nan)
        return np.asarray(array, dtype=np.float32)
