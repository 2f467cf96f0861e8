""".npz: X [n, channels, time] or [n, time], and y, group, channels where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.bundle.npz_archive import read_npz
from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.column_names import clean_name
from edgesparse_runtime.data.model_inputs import without_padding
from edgesparse_runtime.data.readers.arrays import series_of
from edgesparse_runtime.data.readers.forms.npz_windows import NpzWindows, StoredSet, find_windows
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.table import check_free_memory, check_names, decode
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.memory_bounds import free_memory

# Bytes of a value while it is read: in the file's type and ours, with its rows' numbers.
_VALUE_BYTES = 28
_UNKNOWN_MEMORY = 1 << 36
# A series is some Python objects, however short.
_MOST_SHORT_SERIES = 100_000
_NAMES = ("X", "y", "group", "channels", "mask")


def read_npz_file(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a NumPy archive; steps after a series' last value are NaN in every channel.

    Whole windows of a large uncompressed archive stay in the file, for training and predictions of them.
    """
    is_cut = options.window is not None or options.window_time is not None
    windows = None if is_cut or options.task == "forecasting" else find_windows(path)
    if windows is not None:
        return _read_labels(path, options, windows)
    arrays = _arrays(path, _NAMES)
    if "X" not in arrays:
        have = ", ".join(arrays) or "nothing"
        raise InputError(f"{path} must hold an array X [n, channels, time]; it holds {have}.")
    x = arrays["X"]
    if x.ndim == 2:
        x = x[:, None]
    if x.ndim != 3 or x.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: X must be numbers [n, channels, time]; got {x.dtype} {list(arrays['X'].shape)}."
        )
    _check_cost(path, x)
    _check_shapes(path, arrays, x.shape)
    # A float64 beyond float32 becomes infinite, which is refused by name.
    with np.errstate(over="ignore"):
        values = x.astype(np.float32)
    if "mask" in arrays:
        values[arrays["mask"].astype(np.bool_)] = np.nan
    return series_of(
        [without_padding(row) for row in values],
        path=path,
        channels=_channels(path, arrays, x.shape[1]),
        options=options,
        labels=_texts(path, arrays, "y"),
        groups=_texts(path, arrays, "group"),
        notes=_orientation(path, x.shape) + _unread(path, arrays),
    )


def _read_labels(path: Path, options: ReadOptions, windows: NpzWindows) -> SeriesSet:
    """Windows that stay in the file, with labels and groups as they are of others."""
    arrays = _arrays(path, tuple(name for name in _NAMES if name != "X"))
    _check_shapes(path, arrays, windows.shape)
    step = np.zeros((windows.channels, 1), dtype=np.float32)
    data = series_of(
        [step] * len(windows),
        path=path,
        channels=_channels(path, arrays, windows.channels),
        options=options,
        labels=_texts(path, arrays, "y"),
        groups=_texts(path, arrays, "group"),
        notes=_orientation(path, windows.shape) + _unread(path, arrays),
    )
    note = f"{path}: its windows are read as they are needed; they are not held in memory."
    columns = {field.name: getattr(data, field.name) for field in fields(data)}
    return StoredSet(**columns | {"series": windows, "notes": (*data.notes, note)})


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    try:
        return read_npz(path, most_bytes=_largest(), only=names)
    except ValueError as error:
        reason = "it is damaged or something else" if "damaged" in str(error) else str(error)
        if "objects" in reason:
            reason = "it holds Python objects"
        raise InputError(f"{path} must be a .npz archive of plain arrays; {reason}.") from None


def _check_shapes(path: Path, arrays: Mapping[str, npt.NDArray[Any]], shape: tuple[int, ...]) -> None:
    for name in ("y", "group", "mask"):
        expected = shape if name == "mask" else shape[:1]
        if name in arrays and arrays[name].shape != expected:
            raise InputError(
                f"{path}: {name} must have shape {list(expected)}; got {list(arrays[name].shape)}."
            )


def _largest() -> int:
    """A user's own file may be as large as memory."""
    free = free_memory()
    return _UNKNOWN_MEMORY if free is None else free


def _check_cost(path: Path, x: npt.NDArray[Any]) -> None:
    """Small values, and short series, take many times their own size while they are read."""
    check_free_memory(path, f"{x.size} values", x.size * _VALUE_BYTES)
    most = max(_MOST_SHORT_SERIES, path.stat().st_size)
    if len(x) > most:
        raise InputError(f"{path}: X must hold at most {most} series for the file's size; got {len(x)}.")


def _channels(path: Path, arrays: dict[str, npt.NDArray[Any]], count: int) -> tuple[str, ...]:
    named = _texts(path, arrays, "channels")
    if named is None:
        return generic_names(count)
    if len(named) != count:
        raise InputError(f"{path}: `channels` must name {count} channels; got {len(named)}.")
    names = [clean_name(str(name)) for name in named]
    check_names(path, names)
    return tuple(names)


def _texts(path: Path, arrays: dict[str, npt.NDArray[Any]], name: str) -> list[Any] | None:
    """An array as a list, bytes as the text that they are."""
    if name not in arrays:
        return None
    values = np.atleast_1d(arrays[name]).tolist()
    return [decode(value, path, name) if isinstance(value, bytes) else value for value in values]


def _unread(path: Path, arrays: Mapping[str, object]) -> tuple[str, ...]:
    """A word on arrays that nothing is read from: a label under another name would be missed."""
    left = sorted(set(arrays) - set(_NAMES))
    if not left:
        return ()
    return (f"{path}: {', '.join(left[:5])} is not read; arrays are called {', '.join(_NAMES)}.",)


def _orientation(path: Path, shape: tuple[int, ...]) -> tuple[str, ...]:
    """A doubt where the last axis looks like the channels: many short rows."""
    channels, steps = shape[1:]
    if channels <= 16 or steps >= 16 or channels < 4 * steps:
        return ()
    return (
        f"{path}: X has {channels} channels of {steps} steps: is it [n, time, channels]? "
        "Swap the last two axes (X.transpose(0, 2, 1)) if so.",
    )
