"""Recordings for an inspection: what cannot be read becomes a finding, and the rest is looked at."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse_runtime.data.clock import Clock
from edgesparse_runtime.data.inspection.finding import Finding, Piece, Pieces
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.readers.folder.join import header_faults, join_tables
from edgesparse_runtime.data.readers.folder.listing import Listing, list_recordings
from edgesparse_runtime.data.readers.folder.origin import Origin, find_origin
from edgesparse_runtime.data.readers.folder.read import with_origin
from edgesparse_runtime.data.readers.folder.recording_file import read_recording
from edgesparse_runtime.data.readers.labels import class_name
from edgesparse_runtime.data.readers.roles import Roles
from edgesparse_runtime.data.readers.table import Table
from edgesparse_runtime.data.readers.tables import TableRecordings, to_recordings, with_numbers
from edgesparse_runtime.data.recordings import Recording
from edgesparse_runtime.data.series_set import Role, SeriesSet
from edgesparse_runtime.errors import EdgeSparseError, InputError

_TABLES = (".csv", ".parquet", ".wav", ".mat")


@dataclass
class Loaded:
    """What could be read.

    Attributes:
        forms: how text files write their tables, with the number of files.
        first_time: as the first recording writes it.
    """

    data: Pieces = field(default_factory=Pieces)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    roles: tuple[Role, ...] = ()
    files: int = 1
    forms: dict[str, int] = field(default_factory=dict)
    clock: Clock | None = None
    first_time: str = ""


def load(path: Path, options: ReadOptions) -> Loaded:
    """A file or folder.

    Raises:
        InputError: nothing of it can be read.
    """
    options = replace(options, window=None, stride=None, window_time=None, stride_time=None)
    if path.is_dir():
        return _load_folder(path, options)
    if path.suffix.lower() not in _TABLES or not path.exists() or not path.stat().st_size:
        return _from_series(read_dataset(path, options))
    loaded = Loaded()
    table = with_numbers(read_recording(path, options), options)
    loaded.forms = _forms([table])
    loaded.notes = list(table.notes)
    _fill(loaded, table, options, to_recordings(table, options))
    return loaded


def _load_folder(path: Path, options: ReadOptions) -> Loaded:
    loaded = Loaded()
    listing = list_recordings(path)
    loaded.files = len(listing.names)
    if note := listing.note():
        loaded.notes.append(note)
    names, tables = _read_files(listing, options, loaded)
    while True:
        if not tables:
            raise InputError(f"{path} must hold a recording that can be read; {loaded.findings[0].text}")
        try:
            _settle(replace(listing, names=tuple(names)), tables, options, loaded)
        except InputError as error:
            text = str(error).removeprefix(f"{path}, ").removeprefix(f"{path}: ")
            culprit = next((i for i, name in enumerate(names) if f"{name}, row " in text), None)
            if culprit is None:
                loaded.findings.append(Finding("data", "", "", text, stops=True))
                return loaded
            text = _without_path(text, names[culprit])
            loaded.findings.append(Finding("file", names[culprit], "", text, stops=True))
            del names[culprit], tables[culprit]
            continue
        return loaded


def _read_files(listing: Listing, options: ReadOptions, loaded: Loaded) -> tuple[list[str], list[Table]]:
    """Files that can be read and have the usual columns."""
    names: list[str] = []
    tables: list[Table] = []
    for i, name in enumerate(listing.names):
        try:
            tables.append(with_numbers(read_recording(listing.path(i), options), options))
            names.append(name)
        except EdgeSparseError as error:
            text = _without_path(str(error), str(listing.path(i)))
            loaded.findings.append(Finding("file", name, "", text, stops=True))
    loaded.forms = _forms(tables)
    usual = Counter(table.form for table in tables).most_common(1)[0][0] if tables else None
    for name, table in zip(names, tables, strict=True):
        if table.form != usual and table.form is not None:
            text = f"written in {table.form}; the others in {usual}. It is read by its own form"
            loaded.findings.append(Finding("form", name, "", text))
    for i, text in reversed(header_faults(tables)) if tables else ():
        text = text.removeprefix(f"{tables[i].path}, ")
        loaded.findings.append(Finding("header", names[i], "", text, stops=True))
        del names[i], tables[i]
    return names, tables


def _without_path(text: str, path: str) -> str:
    """A message about a file whose name stands before it anyway."""
    return text.removeprefix(f"{path}, ").removeprefix(f"{path}: ").replace(path, "it")


def _forms(tables: Sequence[Table]) -> dict[str, int]:
    return dict(Counter(str(table.form) for table in tables if table.form is not None).most_common())


def _settle(listing: Listing, tables: Sequence[Table], options: ReadOptions, loaded: Loaded) -> None:
    """Roles, clock and labels over all files."""
    joined = join_tables(listing.folder, listing.names, tables, options)
    origin = Origin(None, None)
    try:
        origin = find_origin(listing, options)
    except InputError as error:
        _add_once(loaded, Finding("labels", "", "", str(error), stops=True))
    table, chosen, split = with_origin(joined, origin, options)
    found = to_recordings(table, chosen, split)
    loaded.notes += [note for note in table.notes if note not in loaded.notes]
    _fill(loaded, table, chosen, found)
    for i, piece in enumerate(loaded.data.pieces):
        row = int(found.recordings[i].rows[0])
        loaded.data.pieces[i] = replace(piece, file=listing.names[joined.file_of(row)])
    sources = {origin.label_source, origin.group_source}
    loaded.roles = tuple(
        replace(r, reason="of each recording") if r.column in sources and r.reason == "named" else r
        for r in loaded.roles
    )


def _add_once(loaded: Loaded, finding: Finding) -> None:
    if finding not in loaded.findings:
        loaded.findings.append(finding)


def _fill(loaded: Loaded, table: Table, options: ReadOptions, found: TableRecordings) -> None:
    roles = found.roles
    has_label = roles.label is not None and options.needs_labels
    pieces: list[Piece] = []
    for recording in found.recordings:
        whole = _piece(table, roles, recording, np.arange(len(recording.rows)))
        cells = table.columns[roles.label] if has_label and roles.label is not None else None
        pieces += [whole] if cells is None else _by_label(table, roles, recording, cells, whole)
    loaded.data = Pieces(
        roles.channels,
        pieces,
        is_calendar=found.clock is not None and found.clock.is_calendar,
        has_groups=any(piece.group for piece in pieces),
    )
    loaded.roles, loaded.clock = roles.roles, found.clock
    if roles.time is not None and len(table):
        loaded.first_time = str(table.columns[roles.time][0])


def _piece(table: Table, roles: Roles, recording: Recording, inside: np.ndarray) -> Piece:
    rows = recording.rows[inside]
    name = recording.name or (f"recording {recording.number + 1}" if len(table) else "")
    group = "" if roles.group is None else str(table.columns[roles.group][int(rows[0])]).strip()
    return Piece(
        name,
        "",
        recording.values[:, inside],
        None if recording.times is None else recording.times[inside],
        np.asarray(table.lines)[rows],
        group="" if roles.group == "the file" else group,
    )


def _by_label(
    table: Table, roles: Roles, recording: Recording, cells: Sequence[Any], whole: Piece
) -> list[Piece]:
    """Stretches of one label; a recording of one label is one."""
    here = [cells[row] for row in recording.rows.tolist()]
    classes = {cell: class_name(cell) for cell in set(here)}
    names = [classes[cell] for cell in here]
    if len(set(names)) == 1:
        return [replace(whole, label=names[0])]
    starts = [0, *(i for i in range(1, len(names)) if names[i] != names[i - 1]), len(names)]
    return [
        replace(_piece(table, roles, recording, np.arange(a, b)), label=names[a])
        for a, b in itertools.pairwise(starts)
    ]


def _from_series(data: SeriesSet) -> Loaded:
    """Series of an archive, .ts or .tsv file; each is a recording."""
    pieces = [
        Piece(
            f"series {i + 1}" if data.ids is None else str(data.ids[i]),
            "",
            x,
            None,
            range(x.shape[1]),
            label="" if data.labels is None else str(data.labels[i]),
            group="" if data.groups is None else str(data.groups[i]),
        )
        for i, x in enumerate(data.series)
    ]
    return Loaded(
        Pieces(data.channels, pieces, has_groups=data.groups is not None),
        notes=list(data.notes),
        roles=data.roles,
    )
