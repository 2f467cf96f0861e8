"""Replace a file or a folder whole or not at all, even when the process is killed in between."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# A new file, or an error: nothing that lies there already is opened or followed.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# A staging folder this young may belong to a writer that has not locked it yet.
_GRACE_SECONDS = 60.0
# Only the exchange of names happens under the lock, so nobody waits long.
_LOCK_SECONDS, _LOCK_PAUSE = 30.0, 0.01


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` to write into; it is gone at the end, whatever happened.

    What a killed writer left is removed first: a lock on the folder tells the dead from the living.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    with naming(target):
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    lock = os.open(staging, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with naming(target):
            yield staging
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
    followed through a link, and replaces the target in one step. A failed block leaves nothing behind.
    """
    with naming(target):
        staging, handle = _create_beside(target)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(staging, target)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with os.fdopen(os.open(path, _CREATE, 0o666), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


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
    elif not _exchange(new, target):
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


def _create_beside(target: Path) -> tuple[Path, int]:
    """A new, empty file in the folder of `target`: its path and an open handle."""
    staging = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
    return staging, os.open(staging, _CREATE, 0o666)


def _lock(folder: int) -> bool:
    """Take the folder's lock; False where another has it. Without locks there is nothing to wait for."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(b))


def _remove_leftovers(target: Path) -> None:
    if not target.exists():
        # What lies beside it may be all that is left of it.
        return
    for folder in target.parent.glob(f".{target.name}.*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            if time.time() - os.fstat(lock).st_mtime > _GRACE_SECONDS:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
