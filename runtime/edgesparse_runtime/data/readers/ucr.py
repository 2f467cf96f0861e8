"""UCR .tsv: one series a line, its label first; NaN at the end of a line = shorter."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.readers.labels import to_labels
from edgesparse_runtime.data.readers.npz import strip_tail
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.text import read_lines, to_floats
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


def read_ucr(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a file of the UCR archive."""
    labels, series = [], []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        label, *cells = line.split("\t")
        if not cells:
            raise InputError(f"{path}, row {number}: a label and values must be separated by tabs.")
        labels.append(label)
        row = to_floats(cells, path, partial(_place, number))
        series.append(strip_tail(row.astype(np.float32)[None]))
    return SeriesSet(series, generic_names(1), to_labels(labels, options.task, path), None, str(path))


def _place(row: int, cell: int) -> str:
    return f"row {row}, value {cell + 1}"
