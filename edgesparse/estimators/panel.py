"""What `X` may be: arrays, lists of unequal length, and the panels of sktime, aeon and pandas.

| `X` | read as |
|---|---|
| array [n, channels, time] | n series; a tail of NaN in all channels is padding |
| array or frame of numbers [n, time] | n series of one channel |
| list of arrays [channels, time] or [time] | series whose lengths may differ |
| list of frames, a row per step | the same; the columns are the channels |
| frame with the two index levels series and time | the same (sktime's `pd-multiindex`) |
| frame whose cells are series | a row per series, a column per channel (sktime's `nested_univ`) |

Shapes: `C` channels, `T` steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array

from edgesparse.estimators.errors import InvalidInputError, as_value_errors
from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.float_array import to_float32
from edgesparse_runtime.data.model_inputs import without_padding
from edgesparse_runtime.data.series_set import SeriesSet

SHAPE = "[n, channels, time]"
Named = tuple[list[FloatArray], tuple[str, ...] | None]


def to_series_set(X: Any) -> SeriesSet:
    """The series of `X`, without labels.

    Raises:
        InvalidInputError: none of the forms above, no series, an empty one, or infinite values.
    """
    with as_value_errors():
        series, names = _read(X)
        series = [without_padding(x_CT, 1) for x_CT in series]
        _check(series)
        return SeriesSet(series, names or generic_names(series[0].shape[0]), source="`X`")


def _read(X: Any) -> Named:
    if _is_frame(X):
        return _from_frame(X)
    if isinstance(X, (list, tuple)) and len(X) and _is_series(X[0]):
        return _from_list(X)
    if getattr(X, "ndim", None) == 3 or _is_nested_list(X):
        batch = to_float32(X, "`X`", SHAPE)
        if batch.ndim != 3:
            raise InvalidInputError(f"`X` must have shape {SHAPE}; got {list(batch.shape)}.")
        return list(batch), None
    return _from_table(X), None


def _is_frame(X: Any) -> bool:
    return hasattr(X, "columns") and hasattr(X, "index") and hasattr(X, "iloc")


def _is_series(x: Any) -> bool:
    """An entry that is a whole series; a number or a list of numbers is not."""
    return _is_frame(x) or getattr(x, "ndim", 0) in (1, 2)


def _is_nested_list(X: Any) -> bool:
    """[n][channels][time] in plain lists."""
    depth = 0
    while isinstance(X, (list, tuple)) and len(X):
        X, depth = X[0], depth + 1
    return depth == 3


def _from_table(X: Any) -> list[FloatArray]:
    """Rows of numbers: series of one channel, by scikit-learn's own rules and messages."""
    if isinstance(X, np.ma.MaskedArray):
        X = np.ma.filled(X.astype(np.float64), np.nan)
    if getattr(X, "ndim", 2) > 3:
        raise InvalidInputError(f"`X` must have shape {SHAPE}; got {list(X.shape)}.")
    table = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan", input_name="X")
    return list(to_float32(table, "`X`", "[n, time]")[:, None, :])


def _from_list(X: Sequence[Any]) -> Named:
    names = tuple(map(str, X[0].columns)) if _is_frame(X[0]) else None
    found = []
    for i, x in enumerate(X):
        if _is_frame(x) and tuple(map(str, x.columns)) != names:
            raise InvalidInputError(
                f"Every series of `X` must have the columns of the first; series {i} differs."
            )
        found.append(_to_series(x, i))
    return found, names


def _to_series(x: Any, i: int) -> FloatArray:
    """[C, T] of a frame [T, C], an array [C, T] or an array [T]."""
    if _is_frame(x):
        x = x.to_numpy().T
    x_CT = to_float32(x, f"Series {i} of `X`", "[channels, time]")
    x_CT = x_CT[None] if x_CT.ndim == 1 else x_CT
    if x_CT.ndim != 2:
        raise InvalidInputError(
            f"Series {i} of `X` must have shape [channels, time]; got {list(x_CT.shape)}."
        )
    return x_CT


def _from_frame(X: Any) -> Named:
    levels = getattr(X.index, "nlevels", 1)
    names = tuple(map(str, X.columns))
    if levels == 2:
        return _from_long(X, names)
    if levels > 2:
        raise InvalidInputError(f"`X` must have the index levels series and time; got {levels} levels.")
    if len(X) and any(_is_series(cell) for cell in X.iloc[0]):
        return [_from_cells(row, i) for i, row in enumerate(X.itertuples(index=False, name=None))], names
    return _from_table(X), None


def _from_long(X: Any, names: tuple[str, ...]) -> Named:
    found: list[FloatArray] = []
    for key, part in X.groupby(level=0, sort=False):
        if not part.index.get_level_values(1).is_monotonic_increasing:
            raise InvalidInputError(f"`X` must be in the order of time; series {key} is not. Sort its index.")
        found.append(_to_series(part, len(found)))
    return found, names


def _from_cells(row: tuple[Any, ...], i: int) -> FloatArray:
    channels = [to_float32(cell, f"Series {i} of `X`", "[time]") for cell in row]
    lengths = sorted({len(values) if values.ndim == 1 else -1 for values in channels})
    if len(lengths) > 1 or lengths[0] < 0:
        raise InvalidInputError(f"The channels of series {i} of `X` must have one length; got {lengths}.")
    return np.stack(channels)


def _check(series: Sequence[FloatArray]) -> None:
    if not series:
        raise InvalidInputError("`X` must hold at least one series; it is empty.")
    channels = series[0].shape[0]
    for i, x_CT in enumerate(series):
        if x_CT.shape[0] != channels or not channels:
            raise InvalidInputError(
                f"Series {i} of `X` must have {channels or 'at least 1'} channel(s); got {x_CT.shape[0]}."
            )
        if not x_CT.shape[1]:
            raise InvalidInputError(f"Series {i} of `X` must have at least 1 step; it has none.")
        if np.isinf(x_CT).any():
            raise InvalidInputError(
                f"`X` must be finite; series {i} holds infinity in float32. Use NaN for a missing value."
            )
