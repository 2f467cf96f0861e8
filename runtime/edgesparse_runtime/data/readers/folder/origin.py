"""Label and group of each recording: from `--label-from`, `labels.csv`, or the folder that it lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.data.clock import Clock
from edgesparse_runtime.data.readers.folder.join import JoinedTable
from edgesparse_runtime.data.readers.folder.labels_table import LabelsTable, interval_rows, read_labels_table
from edgesparse_runtime.data.readers.folder.listing import LABELS_TABLE, Listing
from edgesparse_runtime.data.readers.folder.name_pattern import NamePattern
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.errors import InputError

SUB_FOLDER = "the sub-folder"


@dataclass(frozen=True)
class Origin:
    """What names and `labels.csv` state about recordings; it goes before columns of the same role.

    Attributes:
        labels, groups: one per file, None = not stated there.
        label_source, group_source: where from, in words.
        is_weak: the label is from the sub-folder, and a column of labels goes before it.
        table: `labels.csv`, where it is used.
    """

    labels: list[str] | None
    groups: list[str] | None
    label_source: str = ""
    group_source: str = ""
    is_weak: bool = False
    table: LabelsTable | None = None


def find_origin(listing: Listing, options: ReadOptions) -> Origin:
    """Label and group of each file, as far as names and `labels.csv` state them.

    Raises:
        InputError: a name that the pattern does not fit, or a bad `labels.csv`.
    """
    fields: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    table = None
    needs_labels = options.needs_labels and options.task != "forecasting"
    if listing.labels_table is not None:
        table = read_labels_table(listing.labels_table, listing.names, options.encoding)
        is_whole = set(table.rows) >= set(listing.names)
        for name in ("label", "group"):
            # Recordings to predict need no row.
            if name in table.columns and (needs_labels or (name == "group" and is_whole)):
                fields[name] = _column(table, listing.names, name)
                sources[name] = f"{LABELS_TABLE} ({name})"
    if options.label_from is not None:
        pattern = NamePattern.parse(options.label_from)
        for name, values in _from_names(listing, pattern, is_needed=options.needs_labels).items():
            fields[name], sources[name] = values, f"the file's name ({name})"
    is_weak = needs_labels and "label" not in fields
    if is_weak and (folders := _from_folders(listing)) is not None:
        fields["label"], sources["label"] = folders, SUB_FOLDER
    labels = fields.get("label") if needs_labels else None
    is_used = table is not None and sources.get("label", "").startswith(LABELS_TABLE)
    return Origin(
        labels,
        fields.get("group"),
        sources.get("label", ""),
        sources.get("group", ""),
        is_weak,
        table if is_used else None,
    )


def _column(table: LabelsTable, names: Sequence[str], field: str) -> list[str]:
    missing = next((name for name in names if name not in table.rows), None)
    if missing is not None:
        raise InputError(
            f"{table.path}: {missing} must have a row. Add one, or move the file to another folder."
        )
    for rows in table.rows.values():
        empty = next((row for row in rows if not getattr(row, field)), None)
        if empty is not None:
            raise InputError(f"{empty.place}: {field} must not be empty. Fill it in or leave the row out.")
    return [getattr(table.rows[name][0], field) for name in names]


def _from_names(listing: Listing, pattern: NamePattern, *, is_needed: bool) -> dict[str, list[str]]:
    found = [pattern.match(name) for name in listing.names]
    if not is_needed and not all(fields and all(fields.values()) for fields in found):
        # Recordings to predict need no names of that form.
        return {}
    for name, fields in zip(listing.names, found, strict=True):
        if fields is None or not all(fields.values()):
            raise InputError(
                f"{listing.folder}: the name {name} must fit `--label-from` {pattern.text}. Rename the file, "
                "change the pattern, or move the file to another folder."
            )
    return {key: [fields[key] for fields in found if fields] for key in found[0] or {}}


def _from_folders(listing: Listing) -> list[str] | None:
    """The name of each recording's folder; None where all lie in the folder itself.

    Raises:
        InputError: folders within folders, of which either may be the class.
    """
    parents = [PurePosixPath(name).parts[:-1] for name in listing.names]
    if not any(parents):
        return None
    deep = next((name for name, parts in zip(listing.names, parents, strict=True) if len(parts) > 1), None)
    if deep is not None:
        raise InputError(
            f"{listing.folder}: {deep} lies in folders within folders. State which one is the class: "
            "--label-from '{label}/{group}/*' or '{group}/{label}/*', here or as label_from in --spec."
        )
    loose = next((name for name, parts in zip(listing.names, parents, strict=True) if not parts), None)
    if loose is not None:
        raise InputError(
            f"{listing.folder}: {loose} must lie in the folder of its class, as "
            f"{next(name for name in listing.names if '/' in name)} does."
        )
    return [parts[0] for parts in parents]


@dataclass
class Splitter:
    """Takes recordings apart where `labels.csv` states intervals, and labels the rows of each."""

    joined: JoinedTable
    table: LabelsTable
    labels: list[str]

    def __call__(
        self, groups: list[IndexArray], clock: Clock | None, times: DoubleArray | None
    ) -> list[IndexArray]:
        pieces: list[IndexArray] = []
        for rows in groups:
            at = None if times is None else times[rows]
            taken = np.full(len(rows), -1)
            found = self.table.rows[self.joined.files[self.joined.file_of(int(rows[0]))]]
            for number, entry in enumerate(found):
                inside = interval_rows(entry, clock, at, len(rows))
                if (taken[inside] >= 0).any():
                    other = found[int(taken[inside].max())]
                    raise InputError(
                        f"{entry.place}: it must not overlap {Path(other.place).name}. Correct start or end."
                    )
                taken[inside] = number
                for row in rows[inside].tolist():
                    self.labels[row] = entry.label
                pieces.append(rows[inside])
        return pieces
