"""Where a bundle's files are read from: a folder, or one archive. Read only, and nothing leads outside."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from pathlib import Path
from typing import Protocol

from edgesparse_runtime.bundle.names import MOST_FILES, is_plain_name
from edgesparse_runtime.bundle.regular_file import ByteStream, open_regular
from edgesparse_runtime.errors import BundleError

_CHUNK = 1 << 20


class BundleSource(Protocol):
    """Files by plain name."""

    path: Path
    is_archive: bool

    def sizes(self) -> dict[str, int]:
        """Name and size in bytes of every file.

        Raises:
            BundleError: something is there that does not belong in a bundle.
        """
        ...

    def open(self, name: str) -> ByteStream:
        """A stream of a file's content."""
        ...


class FolderSource:
    """A bundle as a folder; links, pipes and folders in it are refused."""

    is_archive = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise BundleError(
                        f"{self.path}: {entry.name!r} is a link, and links are refused in a bundle. Put the "
                        "file itself in its place, or copy the bundle again."
                    )
                if not is_plain_name(entry.name) or not entry.is_file(follow_symlinks=False):
                    raise BundleError(
                        f"{self.path}: {entry.name!r} does not belong in a bundle. Remove it, or copy the "
                        "bundle again."
                    )
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
                if len(found) > MOST_FILES:
                    raise BundleError(f"{self.path}: a bundle must hold at most {MOST_FILES} files.")
        return found

    def open(self, name: str) -> ByteStream:
        # It may have become a link or a pipe since it was listed.
        return open_regular(self.path / name, follow=False)


def find_source(path: Path) -> BundleSource:
    """The folder or archive at `path`.

    Raises:
        BundleError: a file that is no archive.
        FileNotFoundError: nothing is there.
    """
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        # Most bundles on a device are folders.
        from edgesparse_runtime.bundle.archive import ArchiveSource, is_archive

        if is_archive(path):
            return ArchiveSource(path)
    path.stat()
    raise BundleError(f"{path} must be a bundle; it is a file and not an archive of `edgesparse pack`.")


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
