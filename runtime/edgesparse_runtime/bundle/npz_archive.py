"""The one reader of `.npy` and `.npz` content, which may come from anywhere."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

# Bytes of all arrays of an archive together.
LARGEST_ARRAYS = 512 << 20
# An archive unpacks to this much, or to that many times its own size.
UNPACKED_FREELY = 64 << 20
MOST_EXPANSION = 100
_LARGEST_HEADER = 1 << 16
_MOST_MEMBERS = 1000
_CHUNK = 1 << 20


def read_npz(
    source: bytes | Path, *, most_bytes: int = LARGEST_ARRAYS, only: Collection[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz archive, as bytes or as a file, by name.

    Sizes are taken from the directory and each header, and checked before anything is unpacked: a small
    archive cannot unpack to a large one, and nothing is unpickled.

    Args:
        only: names to read; others come back without elements.

    Raises:
        ValueError: not such an archive, arrays of objects, more than `most_bytes`, or more than
            `MOST_EXPANSION` times the archive; the message is a clause ("it is damaged") for the caller's
            sentence.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) < len(names) or len(names) > _MOST_MEMBERS:
                raise _Refused(f"its arrays must have different names, at most {_MOST_MEMBERS}")
            wanted = [m for m, name in zip(members, names, strict=True) if only is None or name in only]
            _check_sizes(wanted, size, most_bytes)
            for member, name in zip(members, names, strict=True):
                if member not in wanted:
                    arrays[name] = np.empty(0)
                    continue
                with archive.open(member) as stream:
                    array = _read_npy(stream, member.filename, most_bytes, member.file_size)
                most_bytes -= array.nbytes
                arrays[name] = array
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # a damaged zip file or header raises many kinds
        raise ValueError(f"it is damaged ({type(error).__name__})") from None
    return arrays


class _Refused(Exception):
    """Well formed, and not to be read."""


def _check_sizes(members: Sequence[zipfile.ZipInfo], size: int, most_bytes: int) -> None:
    """Stated sizes bound what is unpacked: zipfile stops there."""
    for member in members:
        # Others unpack to a thousand times more, and take longer.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Refused(f"{member.filename} must be stored or deflated")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(UNPACKED_FREELY, MOST_EXPANSION * size):
        raise _Refused(
            f"it unpacks to {unpacked >> 20} MB, and {MOST_EXPANSION} times its own size is the limit; "
            "numpy.savez writes it uncompressed"
        )
    if unpacked > most_bytes + _LARGEST_HEADER * len(members):
        raise _Refused(f"it is larger than {most_bytes >> 20} MB")


def _read_npy(stream: IO[bytes], name: str, most_bytes: int, file_size: int) -> npt.NDArray[Any]:
    start = io.BytesIO(stream.read(_LARGEST_HEADER))
    version = np.lib.format.read_magic(start)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise _Refused(f"{name} has an unknown format version")
    shape, is_fortran, dtype = readers[version](start)
    if dtype.hasobject:
        raise _Refused(f"{name} holds Python objects")
    # Elements of no bytes count too.
    size = math.prod(shape) * max(dtype.itemsize, 1)
    if size > most_bytes:
        raise _Refused(f"{name} is larger than {most_bytes >> 20} MB")
    if min(shape, default=0) < 0 or (dtype.itemsize and size > file_size):
        raise ValueError
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype=dtype)
    content = bytearray(size)
    filled = start.readinto(content)
    # Piece by piece: zipfile copies all that it has for each piece of one read.
    while filled < size and (piece := stream.read(min(_CHUNK, size - filled))):
        content[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled != size:
        raise ValueError
    values = np.frombuffer(content, dtype=dtype)
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)
