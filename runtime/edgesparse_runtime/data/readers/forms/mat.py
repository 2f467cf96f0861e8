"""MATLAB 5 files by scipy: a vector per channel, or a matrix with a channel per column."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.column_names import clean_name, plain_name
from edgesparse_runtime.data.readers.forms.wav import TIME
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.table import Table, check_free_memory, check_names
from edgesparse_runtime.data.readers.tables import to_series
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError, MissingExtraError

# Scalars of these names are the sampling rate.
RATES = ("fs", "rate", "sampling_rate", "sample_rate", "samplingrate", "samplerate", "sampling_frequency")
_VALUE_BYTES = 24
# MATLAB's own form since 7.3 is HDF5.
_HDF5 = b"\x89HDF"


def read_mat(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a MATLAB file."""
    return to_series(read_mat_table(path), options)


def read_mat_table(path: Path) -> Table:
    """A column for each vector and for each column of a matrix; times where the file states its rate.

    Raises:
        InputError: no MATLAB 5 file, no numbers, or vectors of several lengths.
        MissingExtraError: scipy is not there.
    """
    arrays, left = _load(path)
    rate = next((float(x.reshape(-1)[0]) for name, x in arrays.items() if _is_rate(name, x)), None)
    columns: dict[str, Any] = {}
    for name, x in arrays.items():
        if x.size <= 1:
            continue
        if min(x.shape) == 1:
            columns[clean_name(name)] = x.reshape(-1)
            continue
        if x.shape[0] == x.shape[1]:
            raise InputError(f"{path}: {name} must have more steps than channels; got {list(x.shape)}.")
        steps = x if x.shape[0] > x.shape[1] else x.T
        columns |= {f"{clean_name(name)}_{i + 1}": column for i, column in enumerate(steps.T)}
    if not columns:
        raise InputError(f"{path} must hold a vector or a matrix of numbers; it holds {_shown(left)}.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:6])
        raise InputError(f"{path}: its vectors must be of one length; got {shown}. Save those of one clock.")
    check_names(path, list(columns))
    steps_ = next(iter(lengths.values()))
    if rate is not None and not any(plain_name(name) in ("time", "t") for name in columns):
        if not rate > 0:
            raise InputError(f"{path}: the sampling rate must be above 0; got {rate:g}.")
        columns = {TIME: np.arange(steps_) / rate, **columns}
    notes = (f"{path}: {_shown(left)} hold no numbers and are not read.",) if left else ()
    return Table(path, columns, range(1, steps_ + 1), notes=notes)


def _is_rate(name: str, x: npt.NDArray[Any]) -> bool:
    return x.size == 1 and plain_name(name) in RATES


def _load(path: Path) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Arrays of real numbers by name, and the names of everything else."""
    try:
        from scipy.io import loadmat, whosmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise MissingExtraError("Reading a MATLAB file", "scipy", "data") from None
    with path.open("rb") as stream:
        head = stream.read(128)
        if head.startswith(_HDF5) or b"MATLAB 7.3" in head:
            raise InputError(f"{path} must be a MATLAB 5 file; it is of version 7.3. Save it with -v7.")
    try:
        listed = whosmat(path)
        wanted = [name for name, shape, kind in listed if kind in _NUMBERS and len(shape) == 2]
        cells = sum(int(np.prod(shape)) for name, shape, _ in listed if name in wanted)
        check_free_memory(path, f"{cells} values", cells * _VALUE_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = loadmat(path, variable_names=wanted)
    except (
        MatReadError,
        ValueError,
        TypeError,
        OSError,
        EOFError,
        IndexError,
        KeyError,
        NotImplementedError,
    ):
        raise InputError(f"{path} must be a MATLAB 5 file; it is damaged or something else.") from None
    arrays = {name: content[name] for name in wanted if np.asarray(content[name]).dtype.kind in "fiub"}
    return arrays, [name for name, *_ in listed if name not in arrays]


_NUMBERS = {
    *("double", "single", "logical"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


def _shown(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
