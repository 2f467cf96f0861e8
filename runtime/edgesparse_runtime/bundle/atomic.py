"""Replace a file or a folder whole or not at all, even when the process is killed in between."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgesparse_runtime.bundle.staging import CREATE, remove_leftovers, stage_file, stage_folder

_AT_FDCWD, _RENAME_NOREPLACE, _RENAME_EXCHANGE = -100, 1, 2
# Only the exchange of names happens under the lock, so nobody waits long.
_LOCK_SECONDS, _LOCK_PAUSE = 30.0, 0.01


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` to write into; it is gone at the end, whatever happened.

    What killed writers left is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Where it is missing, what lies beside it may be all that is left of it, until there is a new one.
    is_new = not target.exists()
    if not is_new:
        remove_leftovers(target)
    with naming(target):
        staging, lock = stage_folder(target)
    try:
        with naming(target):
            yield staging
        if is_new and target.exists():
            remove_leftovers(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


@contextmanager
def only_writer(target: Path) -> Iterator[None]:
    """The block runs while no other writer is in one for the same folder; the lock leaves nothing behind.

    Raises:
        OSError: another writer kept it for too long.
    """
    folder = os.open(target.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _lock(folder):
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another process is writing there", str(target))
            time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(folder)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """An error of the system names what was to be written, and not its staging file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error


def replace_text(target: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    replace_bytes(target, text.encode("utf-8"))


def replace_bytes(target: Path, content: bytes) -> None:
    """Write a file whole or not at all; it is on disk when this returns."""
    with replacing(target) as stream:
        stream.write(content)


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of `target` when the block ends without an error.

    It is written to a file of an unpredictable name beside the target, which is created anew and never
    followed through a link, and replaces the target in one step. A failed block leaves nothing behind. What
    a killed writer of the target left is removed first.
    """
    with naming(target):
        remove_leftovers(target)
        staging, handle = stage_file(target)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                # Before the lock ends with the handle: until then nobody takes the file for a leftover.
                os.replace(staging, target)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with os.fdopen(os.open(path, CREATE, 0o666), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def write_new(target: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file that is not there yet, whole or not at all.

    Raises:
        FileExistsError: something of that name is there.
    """
    with naming(target):
        staging, handle = stage_file(target, mode)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
                if not _rename(staging, target, _RENAME_NOREPLACE):
                    os.link(staging, target, follow_symlinks=False)
        finally:
            staging.unlink(missing_ok=True)
        sync_folder(target.parent)


def put_in_place(new: Path, target: Path) -> None:
    """Give a written file or folder its name; what was there takes the name `new`.

    On Linux the two names are exchanged in one step. Where the file system cannot do that, a folder is set
    aside for an instant; a file is always replaced in one step.
    """
    sync_folder(new if new.is_dir() else new.parent)
    if not target.exists():
        new.rename(target)
    elif new.is_file():
        new.replace(target)
    elif not _rename(new, target, _RENAME_EXCHANGE):
        aside = new.with_name(new.name + ".old")
        target.rename(aside)
        try:
            new.rename(target)
        except OSError:
            aside.rename(target)
            raise
        aside.rename(new)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(folder: int) -> bool:
    """Take the folder's lock; False where another has it. Without locks there is nothing to wait for."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _rename(a: Path, b: Path, how: int) -> bool:
    """Rename in one step that never overwrites; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), how) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(b))
