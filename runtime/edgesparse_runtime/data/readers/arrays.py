"""Series that a file holds one by one (.npz, .tsv, .ts), with a label and a group each, to a `SeriesSet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.data.clock import Clock
from edgesparse_runtime.data.readers.assemble import LabelColumn, assemble
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.recordings import Recording
from edgesparse_runtime.data.series_set import SeriesSet


def series_of(
    series: Sequence[FloatArray],
    *,
    path: Path,
    channels: tuple[str, ...],
    options: ReadOptions,
    labels: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
    times: tuple[Clock, Sequence[DoubleArray]] | None = None,
    notes: tuple[str, ...] = (),
) -> SeriesSet:
    """Series, or their windows where `options.window` is given.

    Args:
        labels, groups: one per series.
        times: their clock, and seconds of each step of each series.
    """
    bounds = np.concatenate([[0], np.cumsum([x.shape[1] for x in series])]).astype(int)
    owner = np.repeat(np.arange(len(series)), [x.shape[1] for x in series])
    recordings = [
        Recording(x, np.arange(bounds[i], bounds[i + 1]), None if times is None else times[1][i], number=i)
        for i, x in enumerate(series)
    ]

    def spread(column: Sequence[Any] | None) -> list[Any] | None:
        return None if column is None else [column[int(i)] for i in owner]

    cells = spread(labels) if options.needs_labels and options.task != "forecasting" else None
    data = assemble(
        recordings,
        path=path,
        channels=channels,
        options=options,
        clock=None if times is None else times[0],
        label=None if cells is None else LabelColumn(cells, lambda row: f"series {owner[row] + 1}"),
        group=spread(groups),
        place=lambda recording: f"series {owner[max(0, int(recording.rows.max()))] + 1}",
    )
    return replace(data, notes=notes + data.notes)
