"""Sources of lines: standard input, or a growing file. Each runs in a thread and fills a backlog."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.backlog import Backlog
from edgesparse_runtime.stream.counts import Counts

# Seconds between checks of a file that has not grown.
POLL = 0.05
_CHUNK = 1 << 16
# An endless line is cut here; LineParser counts it as one that cannot be read.
_LONGEST = 1 << 21


class Line(NamedTuple):
    """A line of text, where it came from, and when, in seconds of `time.perf_counter`."""

    text: str
    arrived: float
    topic: str = ""


def read_pipe(stream: BinaryIO, backlog: Backlog[Line]) -> None:
    """Lines of a pipe or terminal until it ends."""
    splitter = LineSplitter()
    while not backlog.is_closed:
        chunk = os.read(stream.fileno(), _CHUNK)
        if not chunk:
            backlog.put(splitter.rest())
            return
        backlog.put(splitter.split(chunk))


def follow_file(path: Path, backlog: Backlog[Line], counts: Counts) -> None:
    """Lines of a file from its start, then those that are appended, indefinitely.

    A file that is not there yet is waited for; one that is replaced (log rotation) or truncated is read anew
    from its start.
    """
    stream = _open(path, backlog)
    splitter = LineSplitter()
    try:
        while stream is not None and not backlog.is_closed:
            chunk = stream.read(_CHUNK)
            if chunk:
                backlog.put(splitter.split(chunk))
            elif _is_other(path, stream):
                # What follows the last line end was never finished and never will be.
                backlog.put(splitter.rest())
                counts.reopened += 1
                stream.close()
                stream, splitter = _open(path, backlog), LineSplitter()
            else:
                time.sleep(POLL)
    finally:
        if stream is not None:
            stream.close()


def _open(path: Path, backlog: Backlog[Line]) -> BinaryIO | None:
    """The file, once it is there; None when the backlog is closed before."""
    while not backlog.is_closed:
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError:
            time.sleep(POLL)
    return None


def check_file(path: Path) -> None:
    """Refuse what cannot be followed before anything else is done; a file may still be to come.

    Raises:
        InputError: it is a folder, or lies in a folder that does not exist.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory.")
    if not path.exists() and not path.parent.is_dir():
        raise InputError(f"{path}: no such file or directory.")


class LineSplitter:
    """Chunks of bytes to whole lines; a line without its end waits for the rest."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, chunk: bytes) -> list[Line]:
        now = time.perf_counter()
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LONGEST:
            whole.append(self._rest)
            self._rest = b""
        return list(_decode(whole, now))

    def rest(self) -> list[Line]:
        """The last line, where the source ended without a line end."""
        last, self._rest = self._rest, b""
        return list(_decode([last], time.perf_counter())) if last else []


def _decode(lines: list[bytes], arrived: float) -> Iterator[Line]:
    for line in lines:
        yield Line(line.decode("utf-8", errors="replace"), arrived)


def _is_other(path: Path, stream: BinaryIO) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        # Between two files of a rotation: what is open is all there is.
        return False
    opened = os.fstat(stream.fileno())
    return (now.st_ino, now.st_dev) != (opened.st_ino, opened.st_dev) or now.st_size < stream.tell()
