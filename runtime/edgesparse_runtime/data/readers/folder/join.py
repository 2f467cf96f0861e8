"""Tables of several recordings as one, so that roles, clock and numbers are settled over all of them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import IndexArray
from edgesparse_runtime.data.column_names import plain_name, unit_of
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.table import Table, as_column
from edgesparse_runtime.errors import InputError


@dataclass(frozen=True)
class JoinedTable(Table):
    """Rows of all recordings, one file after the other.

    Attributes:
        files: names of the files, from the folder.
        starts: the first row of each file.
    """

    files: Sequence[str] = ()
    starts: IndexArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def file_of(self, row: int) -> int:
        """The file that a row is in."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def place(self, row: int) -> str:
        """File and row."""
        return f"{self.files[self.file_of(row)]}, row {self.lines[row]}"


def header_faults(tables: Sequence[Table]) -> list[tuple[int, str]]:
    """Tables that lack a column of the usual header, each with a sentence."""
    usual, sample = _usual_header(tables)
    faults = []
    for i, table in enumerate(tables):
        missing = [name for name in usual if name not in table.columns]
        if missing:
            faults.append((i, _missing_column(table, missing[0], usual, tables[sample].path)))
    return faults


def _usual_header(tables: Sequence[Table]) -> tuple[tuple[str, ...], int]:
    """The header of most files, and the first file that has it."""
    counts = Counter(frozenset(table.columns) for table in tables)
    most = max(counts.values())
    first = next(i for i, table in enumerate(tables) if counts[frozenset(table.columns)] == most)
    return tuple(tables[first].columns), first


def _missing_column(table: Table, wanted: str, usual: Sequence[str], sample: Path) -> str:
    others = [name for name in table.columns if name not in usual]
    same = next((name for name in others if plain_name(name) == plain_name(wanted)), None)
    where = f"{table.path}, row 1"
    if same is not None and unit_of(same) != unit_of(wanted):
        return (
            f"{where}: column {same} must be in {unit_of(wanted) or 'no unit'}, as {wanted} in {sample.name} "
            "is. Convert its values and name it alike."
        )
    near = difflib.get_close_matches(wanted, others, n=1, cutoff=0.4) or others[:1]
    cure = f" Rename {near[0]} if it is the same." if near else " Record it, or leave the file out."
    have = ", ".join(table.columns)
    return f"{where}: the header must name {wanted}, as {sample.name} does; it has {have}.{cure}"


def join_tables(
    folder: Path, names: Sequence[str], tables: Sequence[Table], options: ReadOptions
) -> JoinedTable:
    """One table of all.

    Args:
        names: of the files, from the folder.
        tables: with numbers as arrays, `with_numbers`.

    Raises:
        InputError: a file lacks a column that the others have.
    """
    if faults := header_faults(tables):
        raise InputError(faults[0][1])
    columns, _ = _usual_header(tables)
    notes = [note for table in tables for note in table.notes]
    extra = {name: table.path for table in tables for name in table.columns if name not in columns}
    if extra:
        shown = ", ".join(f"{name} ({path.name})" for name, path in list(extra.items())[:3])
        notes.append(f"{folder}: columns that not every recording has are left out: {shown}.")
    ends = np.cumsum([len(table) for table in tables])
    recordings, recording_names = _recordings(names, tables)
    return JoinedTable(
        folder,
        {name: _joined([table.columns[name] for table in tables]) for name in columns},
        list(chain.from_iterable(table.lines for table in tables)),
        recordings=recordings,
        names=recording_names,
        notes=tuple(notes),
        files=names,
        starts=np.concatenate([[0], ends[:-1]]).astype(np.int64),
    )


def _recordings(names: Sequence[str], tables: Sequence[Table]) -> tuple[IndexArray, list[str]]:
    numbers: list[IndexArray] = []
    found: list[str] = []
    for name, table in zip(names, tables, strict=True):
        inside = np.zeros(len(table), np.int64) if table.recordings is None else table.recordings
        numbers.append(inside + len(found))
        found += [f"{name} {part}".strip() for part in (table.names or ("",))]
    return np.concatenate(numbers), found


def _joined(parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if all(isinstance(part, np.ndarray) for part in parts):
        return as_column(np.concatenate(parts))
    return list(chain.from_iterable(parts))
