"""Write a result to the path that the user gave, whatever lies there: a file, a link, a device, a pipe."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from edgesparse_runtime.bundle.atomic import naming, replacing

# Replacing a file needs more than writing it: rights on its folder, and no mount on the file itself.
_CANNOT_REPLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}
_LONGEST_CHAIN = 40


def write_output(target: Path, content: str | bytes) -> None:
    """Write a result where it was told to go.

    1. /dev/stdout, /dev/fd/N and the like: into that descriptor, after what it already holds.
    2. A device, FIFO or socket: written through; it is never replaced by a file.
    3. A link: its target is written, and the link stays.
    4. A file with several names (hard links), or one that cannot be replaced: written in place.
    5. Any other file, new or old: whole or not at all, with the rights of the old one.

    Raises:
        OSError: it cannot be written; names `target`.
    """
    # A file name that is not UTF-8 can be part of a result.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with naming(target):
        descriptor = _descriptor(target)
        if descriptor is not None:
            _write_all(os.dup(descriptor), data)
            return
        try:
            found = os.stat(target)
        except FileNotFoundError:
            found = None
        if found is not None and (not stat.S_ISREG(found.st_mode) or found.st_nlink > 1):
            _write_in_place(target, data)
            return
        real = Path(os.path.realpath(target))
        try:
            with replacing(real) as stream:
                if found is not None:
                    os.fchmod(stream.fileno(), stat.S_IMODE(found.st_mode))
                stream.write(data)
        except OSError as error:
            if found is None or error.errno not in _CANNOT_REPLACE:
                raise
            _write_in_place(target, data)


def is_written_through(target: Path) -> bool:
    """True for a path that is a device, a pipe or a descriptor, and not a file."""
    if _descriptor(target) is not None:
        return True
    try:
        return not stat.S_ISREG(os.stat(target).st_mode)
    except OSError:
        return False


def _write_in_place(target: Path, data: bytes) -> None:
    # Never created here: what was looked at is what is opened.
    _write_all(os.open(target, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC), data)


def _write_all(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb", buffering=0) as stream:
        rest = memoryview(data)
        while rest:
            rest = rest[stream.write(rest) :]


def _descriptor(target: Path) -> int | None:
    """The open descriptor of this process that a path such as /dev/stdout names."""
    own = os.path.realpath("/proc/self/fd")
    path = str(target)
    for _ in range(_LONGEST_CHAIN):
        folder, name = os.path.split(path)
        if name.isdigit() and os.path.realpath(folder or ".") == own:
            return int(name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None
