"""Where a bundle's files are read from: a folder, or one archive. Read only, and nothing leads outside.

An archive is a zip file, and what somebody else's zip file says about itself is not believed: its directory
is bounded before it is read, names are plain, sizes are bounded before anything is unpacked, and nothing is
unpacked to disk.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import Protocol

from edgesparse_runtime.bundle.manifest import is_plain_name
from edgesparse_runtime.errors import BundleError

MOST_FILES = 1000
# All files together; an archive stays below the sizes where zip changes its form.
LARGEST_BUNDLE = 2 << 30
_LARGEST_DIRECTORY = 1 << 20
_CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = 20
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    UnicodeError,
    OSError,
)


class ByteStream(Protocol):
    """A file that is read from its start to its end."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class BundleSource(Protocol):
    """Files by plain name."""

    path: Path
    is_archive: bool

    def sizes(self) -> dict[str, int]:
        """Name and size in bytes of every file.

        Raises:
            BundleError: something is there that does not belong into a bundle.
        """
        ...

    def open(self, name: str) -> ByteStream:
        """A stream of a file's content."""
        ...


class FolderSource:
    """A bundle as a folder; links and folders in it are refused."""

    is_archive = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise BundleError(
                        f"{self.path}: {entry.name} is a link, and links are refused in a bundle. Put the "
                        "file itself in its place, or copy the bundle again."
                    )
                if not is_plain_name(entry.name) or not entry.is_file(follow_symlinks=False):
                    raise BundleError(
                        f"{self.path}: {entry.name} does not belong into a bundle. Remove it, or copy the "
                        "bundle again."
                    )
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
                _check_count(self.path, found)
        return found

    def open(self, name: str) -> ByteStream:
        # Not through a link, should the file have become one since it was listed.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.fdopen(os.open(self.path / name, flags), "rb")


class ArchiveSource:
    """A bundle as one zip file."""

    is_archive = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with _open_archive(self.path) as archive:
            for info in archive.infolist():
                if not is_plain_name(info.filename) or info.filename in found:
                    raise BundleError(
                        f"{self.path}: a file of an archive must have a plain name, once; "
                        f"got {info.filename[:100]!r}. Do not use this file."
                    )
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise BundleError(f"{self.path}: {info.filename} must be stored or deflated. Pack again.")
                found[info.filename] = info.file_size
        if sum(found.values()) > LARGEST_BUNDLE:
            raise BundleError(f"{self.path}: a bundle must unpack to at most {LARGEST_BUNDLE >> 30} GB.")
        return found

    def open(self, name: str) -> ByteStream:
        return _Member(self.path, name)


class _Member:
    """A stream of one member that closes the archive with itself; never longer than its stated size."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._archive = _open_archive(path)
        try:
            self._stream = self._archive.open(name)
        except (KeyError, *_BAD_ZIP) as error:
            self._archive.close()
            raise BundleError(f"{path}: {name} cannot be read; {error}. Copy the bundle again.") from None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except _BAD_ZIP as error:
            raise BundleError(
                f"{self._path}: {self._name} cannot be read; {error}. Copy the bundle again."
            ) from None

    def close(self) -> None:
        self._stream.close()
        self._archive.close()


def find_source(path: Path) -> BundleSource:
    """The folder or archive at `path`.

    Raises:
        BundleError: a file that is no archive.
    """
    if path.is_dir():
        return FolderSource(path)
    if not is_archive(path):
        raise BundleError(f"{path} must be a bundle; it is a file and not an archive of `edgesparse pack`.")
    return ArchiveSource(path)


def is_archive(path: Path) -> bool:
    """True for a regular file that begins as a zip file does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def read_file(source: BundleSource, name: str, size: int) -> bytes:
    """The content of a file that must have exactly `size` bytes.

    Raises:
        BundleError: it has another size.
    """
    with closing(source.open(name)) as stream:
        content = stream.read(size + 1)
    if len(content) != size:
        raise BundleError(f"{source.path}: {name} must have {size} bytes. Copy the bundle again.")
    return content


def file_hash(source: BundleSource, name: str) -> str:
    """sha256 of a file, in hex, without holding it in memory."""
    digest = hashlib.sha256()
    with closing(source.open(name)) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file after its end record was checked, so that a huge directory is never read."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _END.size - _ZIP64_LOCATOR))
            tail = stream.read()
        mark, _, _, here, entries, length, offset, comment = _END.unpack(tail[-_END.size :])
        plain = mark == b"PK\x05\x06" and comment == 0 and here == entries
        whole = offset + length + _END.size == size <= LARGEST_BUNDLE
        if not plain or not whole or tail[: -_END.size].startswith(b"PK\x06\x07"):
            raise BundleError(f"{path} must be a whole archive of `edgesparse pack`. Copy the bundle again.")
        if entries > MOST_FILES or length > _LARGEST_DIRECTORY:
            raise BundleError(f"{path}: a bundle must hold at most {MOST_FILES} files; got {entries}.")
        return zipfile.ZipFile(path)
    except _BAD_ZIP as error:
        raise BundleError(f"{path} must be a whole archive; {error}. Copy the bundle again.") from None


def _check_count(path: Path, found: dict[str, int]) -> None:
    if len(found) > MOST_FILES:
        raise BundleError(f"{path}: a bundle must hold at most {MOST_FILES} files.")
