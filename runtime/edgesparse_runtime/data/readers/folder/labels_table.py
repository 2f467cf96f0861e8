"""`labels.csv`: label and group of each file, and of intervals within a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.data.clock import Clock
from edgesparse_runtime.data.column_names import plain_name
from edgesparse_runtime.data.readers.table import Table, read_csv_table
from edgesparse_runtime.data.readers.text import is_missing
from edgesparse_runtime.errors import InputError

COLUMNS = ("file", "label", "group", "start", "end")


@dataclass(frozen=True)
class LabelRow:
    """One row of the table; "" where a cell is empty or its column is not there.

    Attributes:
        place: of the row, for messages.
    """

    label: str
    group: str
    start: str
    end: str
    place: str


@dataclass(frozen=True)
class LabelsTable:
    """Rows by the name of their recording."""

    path: Path
    columns: frozenset[str]
    rows: dict[str, list[LabelRow]]

    @property
    def has_intervals(self) -> bool:
        """Whether a row is about a part of its recording."""
        return any(row.start or row.end for rows in self.rows.values() for row in rows)


def read_labels_table(path: Path, names: Sequence[str], encoding: str | None) -> LabelsTable:
    """Read `labels.csv`.

    Args:
        names: of the recordings, from the folder.

    Raises:
        InputError: columns of other names, a file that is not there, or two rows for one file without
            intervals.
    """
    table = read_csv_table(path, encoding)
    columns = {plain_name(name): name for name in table.columns}
    unknown = [columns[name] for name in columns if name not in COLUMNS]
    if "file" not in columns or unknown or not {"label", "group"} & set(columns):
        raise InputError(
            f"{path} must have the columns file and label, and may have group, start and end; "
            f"it has {', '.join(table.columns)}."
        )
    rows: dict[str, list[LabelRow]] = {}
    for i in range(len(table)):
        file, label, group, start, end = (_cell(table, columns.get(name), i) for name in COLUMNS)
        place = f"{path}, {table.place(i)}"
        rows.setdefault(_find(file, names, place), []).append(LabelRow(label, group, start, end, place))
    for name, found in rows.items():
        _check_rows(name, found)
    return LabelsTable(path, frozenset(columns), rows)


def _cell(table: Table, column: str | None, row: int) -> str:
    if column is None or is_missing(table.columns[column][row]):
        return ""
    return str(table.columns[column][row]).strip()


def _find(wanted: str, names: Sequence[str], place: str) -> str:
    """The recording that a row means: by its path from the folder, or by its name alone where one has it."""
    given = wanted.replace("\\", "/").removeprefix("./")
    if given in names:
        return given
    near = [
        name
        for name in names
        if given in (PurePosixPath(name).name, PurePosixPath(name).stem, name.rpartition(".")[0])
    ]
    if len(near) == 1:
        return near[0]
    if near:
        raise InputError(
            f"{place}: {wanted} must be one file; it is {' and '.join(near[:2])}. Write the folder."
        )
    raise InputError(
        f"{place}: {wanted or 'file'}: no such recording in the folder. Correct the name or leave it out."
    )


def _check_rows(name: str, rows: Sequence[LabelRow]) -> None:
    whole = [row for row in rows if not row.start and not row.end]
    if whole and len(rows) > 1:
        other = next(row for row in rows if row is not whole[0])
        raise InputError(
            f"{max(whole[0].place, other.place)}: {name} must have one row, or a start and an end in each."
        )
    groups = {row.group for row in rows}
    if len(groups) > 1:
        raise InputError(f"{rows[-1].place}: {name} must have one group; got {' and '.join(sorted(groups))}.")


def interval_rows(row: LabelRow, clock: Clock | None, times: DoubleArray | None, count: int) -> IndexArray:
    """Rows of a recording that an interval holds.

    A start belongs to the interval, an end does not. Both are written as the recording's times are, or as
    seconds from its start; without times they count rows from 0.

    Args:
        times: of the recording's rows.
        count: its rows.

    Raises:
        InputError: not of that form, or no row lies within.
    """
    at = np.arange(count, dtype=np.float64) if times is None else times
    low = -np.inf if not row.start else _seconds(row.start, clock, times, row.place, "start")
    high = np.inf if not row.end else _seconds(row.end, clock, times, row.place, "end")
    if not low < high:
        raise InputError(f"{row.place}: start must lie before end; got {row.start} and {row.end}.")
    inside = np.flatnonzero((at >= low) & (at < high))
    if not len(inside):
        shown = f"from {row.start or 'its start'} to {row.end or 'its end'}"
        raise InputError(f"{row.place}: the recording must have rows {shown}; it has none there.")
    return inside


def _seconds(text: str, clock: Clock | None, times: DoubleArray | None, place: str, name: str) -> float:
    if clock is not None:
        try:
            return clock.seconds(text)
        except ValueError:
            pass
    try:
        # A count of seconds from the start; of rows where there are no times.
        return float(text) + (0.0 if times is None else float(times[0]))
    except ValueError:
        how = (
            "a row number, from 0"
            if times is None
            else "written as the recording's times, or seconds from its start"
        )
        raise InputError(f"{place}: {name} must be {how}; got {text}.") from None
