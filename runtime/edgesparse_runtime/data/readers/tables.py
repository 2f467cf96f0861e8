"""CSV and Parquet in long form: one row per time step, columns by their roles."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.data.clock import Clock, read_times
from edgesparse_runtime.data.column_names import MAYBE_TIMES, TIMES, USUAL_NAMES, plain_name, unit_of
from edgesparse_runtime.data.plain_number import is_number_with_marks, to_plain_array, without_commas
from edgesparse_runtime.data.readers.assemble import LabelColumn, assemble
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.roles import Roles, find_roles
from edgesparse_runtime.data.readers.table import Table, as_column, read_csv_table, read_parquet_table
from edgesparse_runtime.data.readers.text import comma_of, is_missing, to_floats
from edgesparse_runtime.data.recordings import Recording
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

# Text of these columns stays text: 007 is a name, and a count of nanoseconds has more digits than a float.
_KEPT = {*TIMES, *MAYBE_TIMES, *chain(*USUAL_NAMES.values())}
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
            others = [
                other
                for other, values in zip(roles.channels, columns, strict=True)
                if other != name and not _are_words(values)
            ]
            raise InputError(f"{error}{_text_hint(cells, roles, others)}") from None
    return found


def _cell(table: Table, name: str, row: int) -> str:
    return f"{table.place(row)}, column {name[:80]}"


def _text_hint(cells: Sequence[Any], roles: Roles, others: Sequence[str]) -> str:
    """A column of words may be the label that nobody named."""
    if not _are_words(cells):
        return " Correct the cell, or empty it where the value is missing."
    if len({str(cell) for cell in cells[:1000] if not is_missing(cell)}) > 50:
        return ""
    label = "" if roles.label is not None else "--label-column if it is the label, or "
    can_be_named = 0 < len(others) <= 12 and not any("," in other for other in others)
    named = f" {shlex.quote(','.join(others))}" if can_be_named else ""
    return f" Give {label}--channels{named} to leave it out."


def _are_words(cells: Sequence[Any]) -> bool:
    """True for cells without a digit, of which the first 1,000 are looked at."""
    words = {str(cell) for cell in cells[:1000] if not is_missing(cell)}
    return not any(any(c.isdigit() for c in word) for word in words)


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


def with_numbers(table: Table, options: ReadOptions) -> Table:
    """The table with columns of numbers as arrays, by what commas are in this file; other columns stay."""
    named = {options.label_column, options.series_column, options.group_column, options.time_column}
    free = [name for name in table.columns if name not in named and plain_name(name) not in _KEPT]
    comma = comma_of([table.columns[name] for name in free if _is_numeric(table.columns[name])], table.path)
    columns = dict(table.columns)
    for name in table.columns:
        cells = table.columns[name]
        if isinstance(cells, np.ndarray):
            continue
        if name not in free:
            columns[name] = _without_decimal_commas(cells) if comma.startswith("decimal") else cells
        elif _is_numeric(cells):
            place = partial(_place, table, name)
            columns[name] = as_column(to_floats(cells, table.path, place, comma))
    return replace(table, columns=columns, form=table.form and replace(table.form, comma=comma))


def _place(table: Table, column: str, row: int) -> str:
    return f"{table.place(row)}, column {column}"


def _is_numeric(cells: Sequence[Any]) -> bool:
    """Numbers and missing cells only, and some number."""
    if isinstance(cells, np.ndarray) or to_plain_array(cells) is not None:
        return True
    known = [cell for cell in cells if not is_missing(cell)]
    return bool(known) and all(map(_is_number, known))


def _is_number(cell: Any) -> bool:
    """A number as people write it; 30.01.2024 is none."""
    if not isinstance(cell, str):
        return isinstance(cell, (int, float))
    return is_number_with_marks(cell) and (cell.count(".") <= 1 or "," in cell)


def _without_decimal_commas(cells: Sequence[Any]) -> list[Any]:
    """Times that are numbers, with a decimal point; dates stay."""
    return [
        without_commas(cell, "decimal") if isinstance(cell, str) and is_number_with_marks(cell) else cell
        for cell in cells
    ]
