"""CSV and Parquet in long form: one row per time step, columns by their roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.data.clock import Clock, read_times
from edgesparse_runtime.data.column_names import unit_of
from edgesparse_runtime.data.readers.assemble import LabelColumn, assemble
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.roles import Roles, find_roles
from edgesparse_runtime.data.readers.table import Table, read_csv_table, read_parquet_table
from edgesparse_runtime.data.readers.text import comma_of, is_missing, to_floats
from edgesparse_runtime.data.recordings import Recording
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

# Rows of each recording, with their clock and times, to those of its labeled pieces.
Split = Callable[[list[IndexArray], Clock | None, DoubleArray | None], list[IndexArray]]


@dataclass(frozen=True)
class TableRecordings:
    """Recordings of a table, before times become steps.

    Attributes:
        clock: of their times; None = there are none.
    """

    roles: Roles
    recordings: list[Recording]
    clock: Clock | None


def read_csv(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a CSV file."""
    return to_series(read_csv_table(path, options.encoding), options)


def read_parquet(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a Parquet file, with pyarrow."""
    return to_series(read_parquet_table(path), options)


def to_recordings(table: Table, options: ReadOptions, split: Split | None = None) -> TableRecordings:
    """The recordings of a table.

    Args:
        split: takes recordings apart where their labels change.
    """
    roles = find_roles(table, options)
    values = np.stack(_values(table, roles))
    groups = _group_rows(table, roles)
    clock, times = _times(table, roles, options)
    if split is not None:
        groups = split(groups, clock, times)
    recordings = [
        Recording(
            values[:, rows].astype(np.float32),
            rows,
            None if times is None else times[rows],
            _name(table, roles, int(rows[0])),
            number,
        )
        for number, rows in enumerate(groups)
    ]
    return TableRecordings(roles, recordings, clock)


def to_series(table: Table, options: ReadOptions, split: Split | None = None) -> SeriesSet:
    """The series of a table, or their windows where `options.window` is given."""
    found = to_recordings(table, options, split)
    roles = found.roles
    label = None
    if roles.label is not None and options.needs_labels:
        label = LabelColumn(table.columns[roles.label], table.place)
    data = assemble(
        found.recordings,
        path=table.path,
        channels=roles.channels,
        options=options,
        clock=found.clock,
        label=label,
        group=None if roles.group is None else table.columns[roles.group],
        start=None if roles.time is None else table.columns[roles.time],
        place=lambda recording: (
            f"the series from {table.place(int(recording.rows[recording.rows >= 0][0]))} on"
        ),
        units=tuple(unit_of(name) for name in roles.channels),
        roles=roles.roles,
        has_one_rate=bool(table.names),
        has_names=roles.series is not None or bool(table.names),
    )
    return replace(data, notes=table.notes + data.notes)


def _name(table: Table, roles: Roles, row: int) -> str:
    """Of the recording that a row belongs to: of its file in a folder, and of its series in the file."""
    series = "" if roles.series is None else str(table.columns[roles.series][row]).strip()
    if table.recordings is None or not table.names:
        return series
    return f"{table.names[table.recordings[row]]} {series}".strip()


def _values(table: Table, roles: Roles) -> list[DoubleArray]:
    columns = [table.columns[name] for name in roles.channels]
    comma = comma_of(columns, table.path)
    found = []
    for name, cells in zip(roles.channels, columns, strict=True):
        try:
            found.append(to_floats(cells, table.path, partial(_cell, table, name), comma))
        except InputError as error:
            raise InputError(f"{error}{_text_hint(cells, roles)}") from None
    return found


def _cell(table: Table, name: str, row: int) -> str:
    return f"{table.place(row)}, column {name[:80]}"


def _text_hint(cells: Sequence[Any], roles: Roles) -> str:
    """A column of words may be the label that nobody named."""
    words = {str(cell) for cell in cells[:1000] if not is_missing(cell)}
    if any(any(c.isdigit() for c in word) for word in words):
        return " Correct the cell, or empty it where the value is missing."
    label = "" if roles.label is not None else "--label-column if it is the label, or "
    return f" Give {label}--channels to leave it out." if len(words) <= 50 else ""


def _group_rows(table: Table, roles: Roles) -> list[IndexArray]:
    """Rows of each series, in the order in which they first appear."""
    _check_series(table, roles)
    keys = [
        [cell.strip() if isinstance(cell, str) else cell for cell in table.columns[name]]
        for name in (roles.series, roles.group)
        if name is not None
    ]
    if not keys:
        ends = () if table.recordings is None else np.flatnonzero(np.diff(table.recordings)) + 1
        return list(np.split(np.arange(len(table)), ends))
    if table.recordings is not None:
        keys.insert(0, table.recordings.tolist())
    # Series numbers may start anew with every machine.
    rows: dict[tuple[Any, ...], list[int]] = {}
    for i, key in enumerate(zip(*keys, strict=True)):
        rows.setdefault(key, []).append(i)
    return [np.array(index) for index in rows.values()]


def _check_series(table: Table, roles: Roles) -> None:
    """Rows of no series, wherever they stand, would become one.

    Raises:
        InputError: names the first.
    """
    if roles.series is None:
        return
    cells = table.columns[roles.series]
    empty = next((i for i, cell in enumerate(cells) if is_missing(cell)), None)
    if empty is not None and not all(is_missing(cell) for cell in cells):
        raise InputError(
            f"{table.path}, {table.place(empty)}: {roles.series} must name the row's series; it is empty. "
            "Fill it in or leave the row out."
        )


def _times(table: Table, roles: Roles, options: ReadOptions) -> tuple[Clock | None, DoubleArray | None]:
    if roles.time is None:
        return None, None
    cells = table.columns[roles.time]
    if roles.date is not None:
        cells = [f"{day} {hour}" for day, hour in zip(table.columns[roles.date], cells, strict=True)]
    try:
        return read_times(cells, unit=options.time_unit, name=f"column {roles.time}", place=table.place)
    except InputError as error:
        raise InputError(f"{table.path}, {error}") from None
