"""Names beside a target under which its new content is written; a lock tells a living writer from a dead one.

A writer locks what it has created and makes sure that its name still leads there. Whoever gets the lock of a
name of this form therefore knows that its writer is gone, and removes what is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# A new file, or an error: nothing that lies there already is opened or followed.
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_LOOK = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)
_RANDOM_BYTES = 8
_MOST_TRIES = 100


def stage_file(target: Path, mode: int = 0o666) -> tuple[Path, int]:
    """A new, empty file in the folder of `target`: its path, and an open handle that holds its lock."""
    return _stage(target, lambda path: os.open(path, CREATE, mode))


def stage_folder(target: Path) -> tuple[Path, int]:
    """A new, empty folder in the folder of `target`, for its owner only: its path and a handle as above."""

    def make(path: Path) -> int | None:
        path.mkdir(mode=0o700)
        try:
            return os.open(path, _LOOK)
        except FileNotFoundError:
            # Another writer took it for a leftover before it could be locked.
            return None

    return _stage(target, make)


def remove_leftovers(target: Path) -> None:
    """Remove what killed writers of `target` left; what a living one writes stays, and so does all else."""
    form = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}\.new")
    # A folder that may be written to and not listed keeps its leftovers.
    with suppress(OSError):
        for name in filter(form.fullmatch, os.listdir(target.parent)):
            _remove_if_dead(target.parent / name)


def _stage(target: Path, create: Callable[[Path], int | None]) -> tuple[Path, int]:
    for _ in range(_MOST_TRIES):
        path = target.with_name(f".{target.name}.{secrets.token_hex(_RANDOM_BYTES)}.new")
        handle = create(path)
        if handle is None:
            continue
        if _claim(handle, path):
            return path, handle
        # Another writer took it for a leftover before it was locked, and removes it.
        os.close(handle)
    raise OSError(errno.EBUSY, "another process removes what is written there", str(target))


def _claim(handle: int, path: Path) -> bool:
    """Lock what was just created; False where another has its lock or has removed it meanwhile."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Without locks nobody removes leftovers either.
        return True
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _remove_if_dead(path: Path) -> None:
    try:
        handle = os.open(path, _LOOK)
    except OSError:
        return
    try:
        # Refused while the writer lives.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(mode):
            path.unlink()
    except OSError:
        pass
    finally:
        os.close(handle)
