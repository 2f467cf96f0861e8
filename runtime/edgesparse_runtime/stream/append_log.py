"""A file that scores are appended to, and that a log rotation may move away."""

from __future__ import annotations

import csv
import os
from pathlib import Path


class AppendLog:
    """Text appended to a file.

    A rotation that renames or deletes the file is followed: what comes next goes into a new file of the old
    name. One that copies and truncates it needs nothing, since every write goes to the end.

    Args:
        path: of the file, or of a device or FIFO, which is never opened again.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("a", encoding="utf-8", errors="backslashreplace")
        self._is_file = path.is_file()

    def first_byte(self) -> bytes:
        """What the file begins with; b"" when it is empty or no file."""
        if not self._is_file:
            return b""
        with self.path.open("rb") as stream:
            return stream.read(1)

    def first_row(self) -> list[str]:
        """Cells of the first row of a CSV file; [] when it is empty or no file."""
        if not self._is_file:
            return []
        with self.path.open(encoding="utf-8", errors="backslashreplace", newline="") as stream:
            return next(csv.reader(stream), [])

    def reopen_if_moved(self) -> bool:
        """Open a new file where the old one was moved away; True when that happened."""
        if not self._is_file:
            return False
        try:
            found, own = os.stat(self.path), os.fstat(self._stream.fileno())
            if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                return False
        except OSError:
            # Moved and not created again.
            pass
        try:
            new = self.path.open("a", encoding="utf-8", errors="backslashreplace")
        except OSError:
            # Scores are kept in the old file rather than lost with the folder.
            return False
        self._stream.close()
        self._stream = new
        return True

    def write(self, text: str) -> int:
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()
