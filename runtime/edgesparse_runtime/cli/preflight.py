"""Checks before a verb works for minutes: where it writes, and on what."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgesparse_runtime.bundle.output_file import is_written_through
from edgesparse_runtime.cli.output import note
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session, default_threads

# A series this many times longer or shorter than the training series gets a note.
FAR = 2


def check_output(path: Path, option: str = "--output") -> None:
    """Refuse a file that could not be written when the work is done.

    Raises:
        InputError: its folder does not exist or cannot be written to, or the path is a folder.
    """
    if path.is_dir():
        raise InputError(f"`{option}` must be a file; {path} is a folder.")
    if is_written_through(path):
        return
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise InputError(f"`{option}` {path}: no folder {folder}. Create it first.")
    # A file may be writable where its folder is not.
    if not (path.exists() and os.access(path, os.W_OK)):
        check_writable(folder, f"`{option}` {path}")


def check_not_an_input(output: Path, inputs: Sequence[Path], option: str = "--output") -> None:
    """Refuse a result that would replace what it is made from, by whatever name or link.

    Raises:
        InputError: `output` is one of `inputs`, or lies in one that is a folder.
    """
    if is_written_through(output):
        return
    real = Path(os.path.realpath(output))
    for path in inputs:
        if Path(os.path.realpath(path)) in (real, *real.parents):
            raise InputError(f"`{option}` {output} would overwrite the input {path}. Choose another file.")


def check_writable(folder: Path, what: str) -> None:
    """Refuse a folder in which no file can be created; only trying tells for sure.

    Raises:
        InputError: with the system's reason.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{what} cannot be written: {error.strerror}. Choose another place.") from None


def note_threads(threads: int | None) -> None:
    """Note more threads than can run at once."""
    usable = default_threads()
    if threads is not None and threads > usable:
        note(f"`--threads` {threads}: only {usable} can run at once on this machine; the others wait.")


def note_data(data: SeriesSet, *, roles: bool = False) -> None:
    """Print what was noticed about data, and on request what each column was taken for."""
    if roles and data.roles:
        note(
            f"{data.source}: {', '.join(map(str, data.roles[:20]))}{', ...' if len(data.roles) > 20 else ''}"
        )
    for line in data.notes:
        note(line)


def note_lengths(session: Session, data: SeriesSet) -> None:
    """Note series whose lengths are far from those that the model was trained on."""
    facts = {} if session.bundle is None else session.bundle.manifest["input"]
    shortest, longest = facts.get("shortest"), facts.get("longest")
    if not shortest or not longest:
        return
    lengths = data.lengths
    far = [n for n in lengths if n * FAR < shortest or n > FAR * longest]
    if far:
        note(
            f"{data.source}: {len(far)} of {len(lengths)} series are far from the {shortest} to {longest} "
            f"steps of the training series (the first has {far[0]}): trust their scores less."
        )
