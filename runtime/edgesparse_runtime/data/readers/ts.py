"""sktime/aeon .ts files, through sktime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.readers.labels import to_labels
from edgesparse_runtime.data.readers.npz import strip_tail
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.text import read_lines
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError, MissingExtraError


def read_ts(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a .ts file; series may differ in length, channels of one series may not."""
    try:
        from sktime.datasets import load_from_tsfile
    except ImportError:
        raise MissingExtraError("Reading a .ts file", "sktime", "data") from None
    if not any(line.strip().lower() == "@data" for line in read_lines(path)):
        raise InputError(f"{path} must be a .ts file; it has no @data line.")
    try:
        frame, labels = load_from_tsfile(str(path), return_y=True, return_data_type="nested_univ")
    except Exception as error:  # the reader raises many kinds, its own among them
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path} must be a .ts file; {lines[0].rstrip('.')}.") from None
    series = []
    for i in range(len(frame)):
        rows = [np.asarray(cell, dtype=np.float32) for cell in frame.iloc[i]]
        if len({len(row) for row in rows}) > 1:
            raise InputError(f"{path}: channels of series {i + 1} must have one length.")
        series.append(strip_tail(np.stack(rows)))
    return SeriesSet(
        series,
        generic_names(frame.shape[1]),
        None if labels is None else to_labels(list(labels), options.task, path),
        None,
        str(path),
    )
