"""One recording's file as a table, whatever its form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgesparse_runtime.data.readers.forms.mat import read_mat_table
from edgesparse_runtime.data.readers.forms.wav import read_wav_table
from edgesparse_runtime.data.readers.npz import read_npz_file
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.table import Table, read_csv_table, read_parquet_table
from edgesparse_runtime.errors import InputError


def read_recording(path: Path, options: ReadOptions) -> Table:
    """Read a file that holds one recording, or several of an archive.

    Raises:
        InputError: bad or empty; one line that names file and row.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} must hold data; it is empty. Record it again or remove it.")
        return _READERS[path.suffix.lower()](path, options)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Restore it or remove it.") from None


def _read_npz(path: Path, options: ReadOptions) -> Table:
    """Series of an archive, one after the other."""
    data = read_npz_file(path, replace(options, window=None, stride=None, window_time=None, stride_time=None))
    lengths = [x.shape[1] for x in data.series]
    recordings = np.repeat(np.arange(len(data)), lengths)
    columns = dict(zip(data.channels, np.concatenate(data.series, axis=1).astype(np.float64), strict=True))
    extra = {
        name: [str(cells[i]) for i in recordings]
        for name, cells in (("label", data.labels), ("group", data.groups))
        if cells is not None
    }
    names = [f"series {i + 1}" for i in range(len(data))] if len(data) > 1 else [""]
    rows = np.concatenate([np.arange(1, length + 1) for length in lengths])
    return Table(path, {**columns, **extra}, rows.tolist(), recordings, names, notes=data.notes)


_READERS: dict[str, Callable[[Path, ReadOptions], Table]] = {
    ".csv": lambda path, options: read_csv_table(path, options.encoding),
    ".parquet": lambda path, options: read_parquet_table(path),
    ".wav": lambda path, options: read_wav_table(path),
    ".mat": lambda path, options: read_mat_table(path),
    ".npz": _read_npz,
}
