"""A file of our own that has a report's trait, read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

# A table of two rows, and rows of two numbers.
BODY = "time,a\n0,5\n1,7\n"
HALVES = "".join(f"{i}.5,{i}\n" for i in range(4))


def read(folder: Path, content: str | bytes, name: str = "x.csv", **options: object) -> SeriesSet:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_dataset(folder / name, ReadOptions(**{"needs_labels": False, **options}))  # type: ignore[arg-type]


def columns(data: SeriesSet) -> dict[str, list[float]]:
    """The values of each channel of the only series."""
    (series,) = data.series
    return {name: row.tolist() for name, row in zip(data.channels, series, strict=True)}


def with_times(times: Iterable[object], name: str = "time") -> str:
    """A table with these times whose channel counts the rows."""
    return f"{name},a\n" + "".join(f"{time},{i}\n" for i, time in enumerate(times))


def refusal(folder: Path, content: str) -> str:
    """The one line that refuses a file."""
    with pytest.raises(InputError) as caught:
        read(folder, content)
    message = str(caught.value)
    assert "\n" not in message
    return message
