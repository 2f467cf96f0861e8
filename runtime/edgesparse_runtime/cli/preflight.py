"""What a verb is about to do is looked at before it works for minutes: where it writes, and on what."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgesparse_runtime.cli.output import note
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session, default_threads

# A series this many times longer or shorter than those of the training is worth a word.
FAR = 2


def check_output(path: Path, option: str = "--output") -> None:
    """Refuse a file that could not be written when the work is done.

    Raises:
        InputError: the folder is not there or takes no file, or a folder has that name.
    """
    if path.is_dir():
        raise InputError(f"`{option}` must be a file; {path} is a folder.")
    if not path.parent.is_dir():
        raise InputError(
            f"`{option}` must lie in a folder that exists; {path.parent} does not. Make it first."
        )
    check_writable(path.parent, f"`{option}` {path}")


def check_writable(folder: Path, what: str) -> None:
    """Refuse a folder that takes no file; trying is the only sure way to know.

    Raises:
        InputError: with what the system says.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{what} cannot be written: {error.strerror}. Choose another place.") from None


def note_threads(threads: int | None) -> None:
    """Say when more threads are asked for than may run at once."""
    usable = default_threads()
    if threads is not None and threads > usable:
        note(f"`--threads` {threads}: {usable} can run at once here, so more of them only wait.")


def note_data(data: SeriesSet, *, roles: bool = False) -> None:
    """Print what was noticed about data, and on request what each column was taken for."""
    if roles and data.roles:
        note(
            f"{data.source}: {', '.join(map(str, data.roles[:20]))}{', ...' if len(data.roles) > 20 else ''}"
        )
    for line in data.notes:
        note(line)


def note_lengths(session: Session, data: SeriesSet) -> None:
    """Say when series are far from the lengths that the model was trained on."""
    facts = {} if session.bundle is None else session.bundle.manifest["input"]
    shortest, longest = facts.get("shortest"), facts.get("longest")
    if not shortest or not longest:
        return
    lengths = [x.shape[1] for x in data.series]
    far = [n for n in lengths if n * FAR < shortest or n > FAR * longest]
    if far:
        note(
            f"{data.source}: {len(far)} of {len(lengths)} series are far from the {shortest} to {longest} "
            f"steps of the training series (the first has {far[0]}): trust their scores less."
        )


def check_remote(on: str | None, wheelhouse: Path | None, remote_python: str) -> None:
    """Refuse options that are for another machine where none is named.

    Raises:
        InputError: one of them is given.
    """
    if on is not None:
        return
    if wheelhouse is not None:
        raise InputError("`--wheelhouse` is for another machine. Add --on ssh://USER@HOST.")
    if remote_python != "python3":
        raise InputError("`--remote-python` is for another machine. Add --on ssh://USER@HOST.")
