"""UCR .tsv: one series per line, its label first; NaN at the end of a line = shorter."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.model_inputs import without_padding
from edgesparse_runtime.data.readers.arrays import series_of
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.text import read_lines, to_floats
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


def read_ucr(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a file of the UCR archive."""
    labels, series = [], []
    for number, line in enumerate(read_lines(path, options.encoding), start=1):
        if not line.strip():
            continue
        label, *cells = line.split("\t")
        if not cells:
            raise InputError(f"{path}, row {number}: a label and values must be separated by tabs.")
        labels.append(label)
        row = to_floats(cells, path, partial(_place, number))
        series.append(without_padding(row.astype(np.float32)[None]))
    return series_of(series, path=path, channels=generic_names(1), options=options, labels=labels)


def _place(row: int, cell: int) -> str:
    return f"row {row}, value {cell + 1}"
