"""`read_dataset`: picks the reader by the file's ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.data.readers.folder.read import read_folder
from edgesparse_runtime.data.readers.forms.frame import is_frame, read_frame
from edgesparse_runtime.data.readers.forms.mat import read_mat
from edgesparse_runtime.data.readers.forms.wav import read_wav
from edgesparse_runtime.data.readers.missing_codes import missing_code_notes
from edgesparse_runtime.data.readers.npz import read_npz_file
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.tables import read_csv, read_parquet
from edgesparse_runtime.data.readers.ts import read_ts
from edgesparse_runtime.data.readers.ucr import read_ucr
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

READERS: dict[str, Callable[[Path, ReadOptions], SeriesSet]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".npz": read_npz_file,
    ".tsv": read_ucr,
    ".ts": read_ts,
    ".wav": read_wav,
    ".mat": read_mat,
}


def read_dataset(path: str | PathLike[str] | Any, options: ReadOptions | None = None) -> SeriesSet:
    """Read a data file, a folder of recordings, or a data frame.

    Args:
        path: .csv or .parquet (one row a time step), .npz (arrays X, y, group), .tsv (UCR), .ts (sktime),
            .wav, .mat (MATLAB 5), or a folder of recordings (docs/guides/data.md, "A folder of recordings").
            A frame of pandas or polars, an xarray or a Hugging Face dataset is read as a table.
        options: where names do not say what is meant.

    Raises:
        InputError: missing or bad file; one line that names file, row and column.
        MissingExtraError: the form needs a package of the `data` extra.
    """
    if is_frame(path):
        data = read_frame(path, options or ReadOptions())
        return _checked(Path(data.source), data)
    file = Path(path)
    if not file.exists():
        import difflib

        near = difflib.get_close_matches(file.name, _siblings(file), n=1)
        hint = f" Did you mean {file.with_name(near[0])}?" if near else ""
        raise InputError(f"{file}: no such file or folder.{hint}")
    reader = read_folder if file.is_dir() else READERS.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{file} must end in {', '.join(READERS)}; got {file.suffix or 'no ending'}.")
    if not file.is_dir() and file.stat().st_size == 0:
        raise InputError(f"{file} must hold data; it is empty.")
    data = reader(file, options or ReadOptions())
    return _checked(file, data)


def _checked(file: Path, data: SeriesSet) -> SeriesSet:
    _check_values(file, data)
    return replace(data, notes=data.notes + missing_code_notes(file, data))


def _siblings(file: Path) -> list[str]:
    return [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []


def _check_values(file: Path, data: SeriesSet) -> None:
    if not len(data):
        raise InputError(f"{file} must hold at least one series; there is none.")
    for i, x in enumerate(data.series):
        # A window of a recording may lie where every sensor was off; streams answer there too, and say so.
        is_window = data.grid.window is not None
        if x.shape[1] == 0 or (not is_window and bool(np.isnan(x).all())):
            raise InputError(f"{file}: series {i + 1} must hold at least one value; all are missing.")
        if bool(np.isinf(x).any()):
            channel = data.channels[int(np.isinf(x).any(axis=1).argmax())]
            raise InputError(f"{file}: series {i + 1}, channel {channel} must be finite; got infinity.")
