"""Opens regular files and nothing else, without blocking, whatever their name leads to by then."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Protocol

from edgesparse_runtime.errors import BundleError


class ByteStream(Protocol):
    """A file that is read from its start to its end."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


def open_regular(path: str | Path, *, folder: int | None = None, follow: bool = True) -> BinaryIO:
    """A stream of a regular file.

    A pipe or a device of that name is opened without waiting for a writer, recognized and closed again: what
    counts is what was opened, not what was listed before.

    Args:
        folder: an open folder that `path` is relative to.
        follow: False = a symbolic link is an error.

    Raises:
        BundleError: it is not a regular file.
        OSError: it does not open.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BundleError(f"{path} must be a regular file. Put the file itself in its place.")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise
