"""CSV and Parquet in long form: one row a time step, columns found by their usual names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.readers.labels import class_name, to_labels
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.text import read_lines, to_floats
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError, MissingExtraError

USUAL_NAMES = {
    "time": ("time", "timestamp", "t", "step"),
    "series": ("series", "series_id", "window", "window_id", "sample", "id"),
    "label": ("label", "class", "target", "y"),
    "group": ("group", "machine", "run", "device", "person", "subject"),
}


@dataclass(frozen=True)
class _Table:
    """Columns as text; row i of the data stands in line `first_line` + i of the file."""

    path: Path
    columns: dict[str, Sequence[str]]
    first_line: int

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))


def read_csv(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a CSV file; the delimiter is the one of , ; and tab that the header holds most of."""
    lines = read_lines(path)
    if not lines or not lines[0].strip():
        raise InputError(f"{path} must start with a header row; the first row is empty.")
    delimiter = max(",;\t", key=lines[0].count)
    header: list[str] = [name.strip() for name in next(csv.reader(lines[:1], delimiter=delimiter))]
    rows = []
    try:
        for number, row in enumerate(csv.reader(lines[1:], delimiter=delimiter), start=2):
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"{path}, row {number} must have {len(header)} cells; got {len(row)}.")
            rows.append(row)
    except csv.Error as error:
        raise InputError(f"{path} must be CSV; {error}.") from None
    _check_header(path, header)
    if not rows:
        raise InputError(f"{path} must hold data; there is a header and nothing else.")
    columns: dict[str, Sequence[str]] = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return _to_series(_Table(path, columns, 2), options)


def read_parquet(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a Parquet file, with pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Reading a Parquet file", "pyarrow", "data") from None
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError):
        raise InputError(f"{path} must be a Parquet file; it is damaged or something else.") from None
    _check_header(path, table.column_names)
    if not table.num_rows:
        raise InputError(f"{path} must hold data; there are no rows.")
    columns: dict[str, Sequence[str]] = {
        name: ["" if v is None else str(v) for v in table.column(name).to_pylist()]
        for name in table.column_names
    }
    return _to_series(_Table(path, columns, 1), options)


def _check_header(path: Path, header: list[str]) -> None:
    for i, name in enumerate(header):
        if not name:
            raise InputError(f"{path}: column {i + 1} must have a name.")
        if name in header[:i]:
            raise InputError(f"{path}: column names must differ; {name} stands twice.")


def _to_series(table: _Table, options: ReadOptions) -> SeriesSet:
    roles = {role: _find(table, role, getattr(options, f"{role}_column")) for role in USUAL_NAMES}
    channels = _channels(table, roles, options)
    values = np.stack([_numbers(table, name) for name in channels])
    rows, recordings = _row_groups(table, roles, options)
    _check_rows(table, values, rows)
    return SeriesSet(
        series=[values[:, index].astype(np.float32) for index in rows],
        channels=channels,
        labels=_labels(table, roles["label"], rows, options),
        groups=_groups(table, roles["group"], rows, recordings),
        source=str(table.path),
    )


def _find(table: _Table, role: str, wanted: str | None) -> str | None:
    if wanted is not None:
        if wanted not in table.columns:
            raise InputError(_no_column(table, wanted))
        return wanted
    names = [name for name in table.columns if name.lower() in USUAL_NAMES[role]]
    return min(names, key=lambda name: USUAL_NAMES[role].index(name.lower())) if names else None


def _channels(table: _Table, roles: dict[str, str | None], options: ReadOptions) -> tuple[str, ...]:
    if options.channels is not None:
        for name in options.channels:
            if name not in table.columns:
                raise InputError(_no_column(table, name))
        return options.channels
    left = tuple(name for name in table.columns if name not in roles.values())
    if not left:
        raise InputError(f"{table.path} must have a channel column besides {', '.join(table.columns)}.")
    return left


def _no_column(table: _Table, wanted: str) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, list(table.columns), n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{table.path} must have a column {wanted}; it has {', '.join(table.columns)}.{hint}"


def _numbers(table: _Table, name: str) -> npt.NDArray[np.float64]:
    return to_floats(table.columns[name], table.path, lambda i: f"row {table.first_line + i}, column {name}")


def _row_groups(
    table: _Table, roles: dict[str, str | None], options: ReadOptions
) -> tuple[list[npt.NDArray[np.int64]], list[int] | None]:
    """Row indices of each series or window, in the order in which they first appear.

    For windows also the number of the recording that each is cut from, where there are several.
    """
    recordings = [np.arange(table.rows)]
    if roles["series"]:
        keys = [table.columns[roles["series"]]]
        if roles["group"]:
            # Series numbers may start anew with every machine.
            keys.append(table.columns[roles["group"]])
        recordings = _by_key(list(zip(*keys, strict=True)))
    elif roles["group"]:
        recordings = _by_key(list(table.columns[roles["group"]]))
    # Before windows are cut: rows of a table may come in any order.
    times = table.columns[roles["time"]] if roles["time"] else None
    recordings = [_in_time_order(index, times) for index in recordings]
    if options.window is None:
        return recordings, None
    stride = options.stride or options.window
    cut = [
        (recording[start : start + options.window], number)
        for number, recording in enumerate(recordings)
        for start in range(0, len(recording) - options.window + 1, stride)
    ]
    windows = [rows for rows, _ in cut]
    if not windows:
        longest = max(map(len, recordings))
        raise InputError(
            f"`window` must be at most {longest}, the longest recording of {table.path}; "
            f"got {options.window}."
        )
    return windows, [number for _, number in cut] if len(recordings) > 1 else None


def _place(table: _Table, index: npt.NDArray[np.int64]) -> str:
    return f"the series from row {table.first_line + int(index[0])} on"


def _check_rows(table: _Table, values: npt.NDArray[np.float64], rows: list[npt.NDArray[np.int64]]) -> None:
    for index in rows:
        if bool(np.isnan(values[:, index]).all()):
            raise InputError(
                f"{table.path}: {_place(table, index)} must hold at least one value; all are missing."
            )


def _by_key(keys: Sequence[object]) -> list[npt.NDArray[np.int64]]:
    rows: dict[object, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
    return [np.array(index) for index in rows.values()]


def _in_time_order(index: npt.NDArray[np.int64], times: Sequence[str] | None) -> npt.NDArray[np.int64]:
    if times is None:
        return index
    cells = [times[i] for i in index]
    try:
        order = np.argsort(np.array(cells, dtype=np.float64), kind="stable")
    except ValueError:
        # ISO times sort as text.
        order = np.argsort(np.array(cells), kind="stable")
    return index[order]


def _labels(
    table: _Table, column: str | None, rows: list[npt.NDArray[np.int64]], options: ReadOptions
) -> npt.NDArray[np.str_] | npt.NDArray[np.float64] | None:
    if column is None:
        return None
    cells = table.columns[column]

    def place(number: int) -> str:
        return _place(table, rows[number])

    if options.window is not None:
        most = [_majority([cells[i] for i in index]) for index in rows]
        return to_labels(most, options.task, table.path, place)
    for index in rows:
        for i in index:
            if cells[i] != cells[index[0]] and class_name(cells[i]) != class_name(cells[index[0]]):
                raise InputError(
                    f"{table.path}, row {table.first_line + int(i)}: a series must have one label; "
                    f"got {cells[i]!r} after {cells[index[0]]!r}. "
                    "Give `--window` to cut a recording into windows."
                )
    return to_labels([cells[index[0]] for index in rows], options.task, table.path, place)


def _majority(cells: list[str]) -> str:
    names, counts = np.unique(cells, return_counts=True)
    return str(names[counts.argmax()])


def _groups(
    table: _Table, column: str | None, rows: list[npt.NDArray[np.int64]], recordings: list[int] | None
) -> npt.NDArray[np.str_] | None:
    if column is None:
        # Windows of one recording resemble each other, and may share steps.
        return None if recordings is None else np.array(recordings).astype(np.str_)
    return np.array([table.columns[column][index[0]] for index in rows], dtype=np.str_)
