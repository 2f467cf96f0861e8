"""Data frames in memory: pandas, polars, xarray and Hugging Face datasets; none of them is imported here.

A frame is a table as a file is: a row per time step and columns by their roles (docs/guides/data.md). Where
cells hold arrays, as in most Hugging Face datasets, each row is a series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.data.column_names import clean_name
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.table import Table, as_column, check_names
from edgesparse_runtime.data.readers.tables import to_series, with_numbers
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

# Stands where a file has its path, in messages.
_SOURCE = Path("data frame")
_LIBRARIES = ("pandas", "polars", "xarray", "datasets")


def is_frame(data: object) -> bool:
    """Whether it is an object of one of these libraries."""
    return type(data).__module__.partition(".")[0] in _LIBRARIES


def read_frame(data: Any, options: ReadOptions) -> SeriesSet:
    """Read a frame.

    Raises:
        InputError: no frame but something else of these libraries, or bad values; names row and column.
    """
    columns = {clean_name(str(name)): cells for name, cells in _columns(data).items()}
    check_names(_SOURCE, [clean_name(str(name)) for name in columns])
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(f"{_SOURCE} must hold rows; it has none.")
    table = _exploded(columns) if any(map(_holds_arrays, columns.values())) else _plain(columns)
    return to_series(with_numbers(table, options), options)


def _columns(data: Any) -> Mapping[str, Sequence[Any]]:
    library, kind = type(data).__module__.partition(".")[0], type(data).__name__
    if library == "xarray" and kind in ("DataArray", "Dataset"):
        return _pandas_columns(_xarray_frame(data))
    if library == "pandas" and kind == "DataFrame":
        return _pandas_columns(data)
    if library == "polars" and kind == "DataFrame":
        return {column.name: _polars_cells(column) for column in data.get_columns()}
    if library == "datasets" and kind == "Dataset":
        return {name: _named_classes(data.features[name], data[name][:]) for name in data.column_names}
    cures = {
        "LazyFrame": " Call .collect() first.",
        "DatasetDict": " Name one split: data['train'].",
        "Series": " Give a frame with a column per channel.",
    }
    raise InputError(f"The data must be a data frame; got {library}'s {kind}.{cures.get(kind, '')}")


def _xarray_frame(data: Any) -> Any:
    """Variables, or what is along the dimension `channel`, as columns, and so are the dimensions."""
    if type(data).__name__ == "DataArray":
        has_channels = "channel" in data.dims
        data = data.to_dataset(dim="channel") if has_channels else data.to_dataset(name=data.name or "value")
    return data.to_dataframe()


def _pandas_columns(frame: Any) -> dict[str, Sequence[Any]]:
    """Columns, after an index that has names or times."""
    index = frame.index
    if any(name is not None for name in index.names) or index.dtype.kind in "Mm":
        # Coordinates of xarray may stand on both sides.
        kept = [name for name in index.names if name is None or name not in frame.columns]
        if kept == [None]:
            frame = frame.reset_index(names="time")
        elif kept:
            frame = frame.reset_index(level=kept)
    return {str(name): _pandas_cells(frame[name]) for name in frame.columns}


def _pandas_cells(column: Any) -> Sequence[Any]:
    if getattr(column, "ndim", 1) != 1:
        raise InputError(f"{_SOURCE}: column names must differ; {column.columns[0]} stands twice.")
    kind = getattr(column.dtype, "kind", "O")
    if kind == "M":
        zone = "Z" if getattr(column.dtype, "tz", None) is not None else ""
        column = column.dt.tz_convert("UTC").dt.tz_localize(None) if zone else column
        return _times(column.to_numpy(), zone)
    if kind == "f" and isinstance(column.dtype, np.dtype):
        return as_column(column.to_numpy(dtype=np.float64))
    # Missing values of pandas' own types are no floats.
    missing = column.isna().tolist()
    cells: list[Any] = column.astype(object).tolist()
    return [None if is_missing else cell for cell, is_missing in zip(cells, missing, strict=True)]


def _polars_cells(column: Any) -> Sequence[Any]:
    if str(column.dtype).startswith("Datetime"):
        zone = "Z" if getattr(column.dtype, "time_zone", None) else ""
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else column
        return _times(column.to_numpy(), zone)
    cells: list[Any] = column.to_list()
    return cells


def _times(stamps: Any, zone: str) -> list[str | None]:
    """Times as text that keeps their nanoseconds, as those of Parquet."""
    return [None if np.isnat(stamp) else f"{stamp}{zone}" for stamp in stamps]


def _named_classes(feature: Any, cells: Sequence[Any]) -> Sequence[Any]:
    """Class numbers of a Hugging Face dataset by their names."""
    names = getattr(feature, "names", None)
    return [None if cell is None or cell < 0 else names[cell] for cell in cells] if names else cells


def _holds_arrays(cells: Sequence[Any]) -> bool:
    first = next((cell for cell in cells if cell is not None), None)
    return isinstance(first, (list, tuple, np.ndarray)) or hasattr(first, "to_list")


def _plain(columns: Mapping[str, Sequence[Any]]) -> Table:
    return Table(_SOURCE, columns, range(1, len(next(iter(columns.values()))) + 1))


def _exploded(columns: Mapping[str, Sequence[Any]]) -> Table:
    """A row per time step, of rows that hold a series each."""
    arrays = {
        name: [_to_array(cell, name, i) for i, cell in enumerate(cells)]
        for name, cells in columns.items()
        if _holds_arrays(cells)
    }
    first = next(iter(arrays.values()))
    lengths = [x.shape[1] for x in first]
    channels: dict[str, Any] = {}
    for name, parts in arrays.items():
        for i, part in enumerate(parts):
            if part.shape[1] != lengths[i] or len(part) != len(parts[0]):
                shape = [len(parts[0]), lengths[i]]
                raise InputError(
                    f"{_SOURCE}, row {i + 1}: {name} must be {shape} as its other channels; "
                    f"got {list(part.shape)}."
                )
        joined = np.concatenate(parts, axis=1)
        names = [name] if len(joined) == 1 else [f"{name}_{k + 1}" for k in range(len(joined))]
        channels |= {key: as_column(row) for key, row in zip(names, joined, strict=True)}
    owners = np.repeat(np.arange(len(lengths)), lengths)
    rows = owners.tolist()
    scalars = {name: [cells[i] for i in rows] for name, cells in columns.items() if name not in arrays}
    return Table(
        _SOURCE,
        {**scalars, **channels},
        [i + 1 for i in rows],
        recordings=owners,
        names=[f"row {i + 1}" for i in range(len(lengths))],
    )


def _to_array(cell: Any, name: str, row: int) -> np.ndarray:
    """[channels, steps] of one cell."""
    try:
        values = np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or not values.size:
        raise InputError(f"{_SOURCE}, row {row + 1}: {name} must be numbers [steps] or [channels, steps].")
    return values
