"""A `SeriesSet` to a CSV file in long form, whole or not at all."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from edgesparse_runtime.bundle.atomic import replacing
from edgesparse_runtime.data.series_set import SeriesSet


def write_csv(path: str | Path, data: SeriesSet) -> None:
    """One row per time step: series, time, the channels, and label and group where there are any."""
    extra = [name for name in ("label", "group") if getattr(data, f"{name}s") is not None]
    with replacing(Path(path)) as content:
        stream = io.TextIOWrapper(content, "utf-8", newline="")
        writer = csv.writer(stream)
        writer.writerow(["series", "time", *data.channels, *extra])
        for i, x in enumerate(data.series):
            series = i if data.ids is None else data.ids[i]
            tail = [str(getattr(data, f"{name}s")[i]) for name in extra]
            for t, values in enumerate(x.T):
                cells = ["" if np.isnan(v) else repr(float(v)) for v in values]
                writer.writerow([series, t, *cells, *tail])
        # Flushes; the stream below is closed when the file takes its place.
        stream.detach()
