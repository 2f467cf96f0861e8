"""A `SeriesSet` to a CSV file in long form, whole or not at all."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edgesparse_runtime.data.series_set import SeriesSet


def write_csv(path: str | Path, data: SeriesSet) -> None:
    """One row per time step: series, time, the channels, and label and group where there are any."""
    target = Path(path)
    staging = target.with_name(f".{target.name}.new")
    extra = [name for name in ("label", "group") if getattr(data, f"{name}s") is not None]
    try:
        with staging.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["series", "time", *data.channels, *extra])
            for i, x in enumerate(data.series):
                name = i if data.ids is None else data.ids[i]
                tail = [str(getattr(data, f"{name}s")[i]) for name in extra]
                for t, values in enumerate(x.T):
                    cells = ["" if np.isnan(v) else repr(float(v)) for v in values]
                    writer.writerow([name, t, *cells, *tail])
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)
