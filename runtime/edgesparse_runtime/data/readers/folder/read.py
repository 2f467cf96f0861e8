"""`read_folder`: a folder of recordings to a `SeriesSet`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgesparse_runtime.data.readers.folder.join import JoinedTable, join_tables
from edgesparse_runtime.data.readers.folder.listing import Listing, list_recordings
from edgesparse_runtime.data.readers.folder.origin import Origin, Splitter, find_origin
from edgesparse_runtime.data.readers.folder.recording_file import read_recording
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.roles import find_roles
from edgesparse_runtime.data.readers.tables import Split, to_series, with_numbers
from edgesparse_runtime.data.series_set import Role, SeriesSet
from edgesparse_runtime.errors import InputError


def read_folder(folder: Path, options: ReadOptions) -> SeriesSet:
    """Read every recording below a folder.

    Raises:
        InputError: one that is bad, or that does not go with the others; names file, row and cure.
    """
    listing = list_recordings(folder)
    origin = find_origin(listing, options)
    copies = find_copies([listing.path(i) for i in range(len(listing.names))])
    copy_notes = check_copies(listing, origin, copies)
    tables = [
        with_numbers(read_recording(listing.path(i), options), options) for i in range(len(listing.names))
    ]
    joined, chosen, split = with_origin(join_tables(folder, listing.names, tables, options), origin, options)
    data = to_series(joined, chosen, split)
    notes = [note for note in (listing.note(), *copy_notes) if note]
    return replace(data, roles=_named(data.roles, origin), notes=(*notes, *data.notes))


def with_origin(
    joined: JoinedTable, origin: Origin, options: ReadOptions
) -> tuple[JoinedTable, ReadOptions, Split | None]:
    """The table with columns of what names and `labels.csv` state, and options that name these columns.

    `options.group_column` may be "group" or "file", which are no columns of the recordings.
    """
    wanted = options.group_column
    has_ours = {"file": True, "group": origin.groups is not None}
    is_ours = wanted not in joined.columns and has_ours.get(wanted or "", False)
    if wanted == "group" and not is_ours and wanted not in joined.columns:
        raise InputError(
            f"{joined.path} must name the group of each recording. State --label-from "
            "'{label}/{group}_*', add a column group to labels.csv, or choose `file` as the group."
        )
    options = replace(options, group_column=None) if is_ours else options
    own = find_roles(joined, options)
    columns = dict(joined.columns)
    lengths = _lengths(joined)
    split: Split | None = None

    notes = list(joined.notes)

    def add(name: str, values: Sequence[str], instead_of: str | None) -> str:
        columns[name] = [value for value, n in zip(values, lengths, strict=True) for _ in range(n)]
        if instead_of is not None:
            del columns[instead_of]
            notes.append(f"{joined.path}: column {instead_of} is left out; {name} goes before it.")
        return name

    if origin.labels is not None and options.label_column is None and not (origin.is_weak and own.label):
        options = replace(options, label_column=add(origin.label_source, origin.labels, own.label))
        if origin.table is not None and origin.table.has_intervals:
            split = Splitter(joined, origin.table, columns[origin.label_source])  # type: ignore[arg-type]
    if is_ours and wanted == "file":
        options = replace(options, group_column=add("the file", joined.files, own.group))
    elif options.group_column is None and origin.groups is not None:
        options = replace(options, group_column=add(origin.group_source, origin.groups, own.group))
    elif options.group_column is None and own.group is None and _cuts(options, split):
        # Pieces of one recording resemble each other.
        options = replace(options, group_column=add("the file", joined.files, None))
    return replace(joined, columns=columns, notes=tuple(notes)), options, split


def _cuts(options: ReadOptions, split: Split | None) -> bool:
    return split is not None or options.window is not None or options.window_time is not None


def _lengths(joined: JoinedTable) -> list[int]:
    ends = [*joined.starts[1:].tolist(), len(joined)]
    return [end - start for start, end in zip(joined.starts.tolist(), ends, strict=True)]


def _named(roles: Sequence[Role], origin: Origin) -> tuple[Role, ...]:
    """Roles of the columns that names and `labels.csv` give, with where they are from."""
    sources = {origin.label_source, origin.group_source, "the file"}
    return tuple(
        replace(role, reason="of each recording")
        if role.column in sources and role.reason == "named"
        else role
        for role in roles
    )


def find_copies(paths: Sequence[Path]) -> list[list[int]]:
    """Files of the same content, by number; only files of one size are read."""
    sizes: dict[int, list[int]] = {}
    for i, path in enumerate(paths):
        if not os.access(path, os.R_OK):
            # Its reader says so.
            continue
        sizes.setdefault(path.stat().st_size, []).append(i)
    found: dict[tuple[int, bytes], list[int]] = {}
    for size, same in sizes.items():
        for i in same if len(same) > 1 and size else ():
            found.setdefault((size, hashlib.sha256(paths[i].read_bytes()).digest()), []).append(i)
    return [numbers for numbers in found.values() if len(numbers) > 1]


def check_copies(listing: Listing, origin: Origin, copies: Sequence[Sequence[int]]) -> list[str]:
    """A note on files of the same content.

    Raises:
        InputError: they have different labels.
    """
    for same in copies:
        labels = {} if origin.labels is None else {origin.labels[i]: listing.names[i] for i in same}
        if len(labels) > 1 and not (origin.table is not None and origin.table.has_intervals):
            shown = " and ".join(f"{name} ({label})" for label, name in sorted(labels.items()))
            raise InputError(
                f"{listing.folder}: {shown} hold the same recording and must have one label. "
                "Remove one of them."
            )
    if not copies:
        return []
    first = " and ".join(listing.names[i] for i in copies[0][:2])
    return [
        f"{listing.folder}: {sum(len(same) - 1 for same in copies)} recording(s) are copies of another one "
        f"({first}). A copy that is held out was learned already: remove it."
    ]
