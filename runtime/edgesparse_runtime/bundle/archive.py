"""A bundle as one zip file, which may be somebody else's.

What such a file states about itself is not trusted: its directory is bounded before it is read, names are
plain, sizes are bounded before anything is unpacked, and nothing is unpacked to disk.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from edgesparse_runtime.bundle.names import LARGEST_BUNDLE, MOST_FILES, is_plain_name
from edgesparse_runtime.bundle.npz_archive import MOST_EXPANSION, UNPACKED_FREELY
from edgesparse_runtime.bundle.regular_file import ByteStream, open_regular
from edgesparse_runtime.errors import BundleError

_MAGIC = b"PK\x03\x04"
_LARGEST_DIRECTORY = 1 << 20
_PIECE = 1 << 20
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


class ArchiveSource:
    """The members of one zip file, by plain name."""

    is_archive = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with _open_archive(self.path) as archive:
            packed = archive.start_dir
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
        _check_expansion(self.path, sum(found.values()), packed)
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

    def read(self, size: int = -1, /) -> bytes:
        # Piece by piece: zipfile copies all that it has for each piece of one read.
        pieces: list[bytes] = []
        try:
            while size and (piece := self._stream.read(min(size, _PIECE))):
                pieces.append(piece)
                size -= len(piece)
            return b"".join(pieces)
        except _BAD_ZIP as error:
            raise BundleError(
                f"{self._path}: {self._name} cannot be read; {error}. Copy the bundle again."
            ) from None

    def close(self) -> None:
        self._stream.close()
        self._archive.close()


class _OpenArchive(zipfile.ZipFile):
    """A zip file that closes the stream that it was given."""

    def __init__(self, stream: BinaryIO) -> None:
        self._owned = stream
        super().__init__(stream)

    def close(self) -> None:
        super().close()
        self._owned.close()


def _check_expansion(path: Path, unpacked: int, packed: int) -> None:
    """A small archive does not unpack to a large bundle."""
    if unpacked > max(UNPACKED_FREELY, MOST_EXPANSION * packed):
        raise BundleError(
            f"{path}: an archive must unpack to at most {UNPACKED_FREELY >> 20} MB or {MOST_EXPANSION} times "
            f"its own size; got {unpacked >> 20} MB. Use the bundle as a folder."
        )


def is_archive(path: Path) -> bool:
    """True for a regular file that begins as a zip file does."""
    try:
        with open_regular(path) as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except (OSError, BundleError):
        return False


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """A zip file of `files`: the same bytes for the same content."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, content)
    return stream.getvalue()


def _open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file after its end record was checked, so that a huge directory is never read."""
    stream = open_regular(path)
    try:
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
        # The file that was checked is the file that is read, whatever its name leads to by now.
        return _OpenArchive(stream)
    except BaseException as error:
        stream.close()
        if isinstance(error, _BAD_ZIP):
            raise BundleError(f"{path} must be a whole archive; {error}. Copy the bundle again.") from None
        raise
