"""Names of array types, and the one reader of `.npy` and `.npz` content, which may come from anywhere."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.int64]

# Bytes of all arrays of an archive together.
LARGEST_ARRAYS = 512 << 20


def read_npz(source: bytes | Path, *, most_bytes: int = LARGEST_ARRAYS) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz archive, as bytes or as a file, by name.

    Sizes are taken from each header and checked before memory is: a small archive cannot unpack to a large
    one, and nothing is unpickled.

    Raises:
        ValueError: not such an archive, arrays of objects, or more than `most_bytes`; the message is a clause
            ("it is damaged") for the caller's sentence.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    array = _read_npy(stream, member.filename, most_bytes, member.file_size)
                most_bytes -= array.nbytes
                arrays[member.filename.removesuffix(".npy")] = array
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # a damaged zip file or header raises many kinds
        raise ValueError(f"it is damaged ({type(error).__name__})") from None
    return arrays


class _Refused(Exception):
    """Well formed, and not to be read."""


def _read_npy(stream: IO[bytes], name: str, most_bytes: int, file_size: int) -> npt.NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise _Refused(f"{name} has an unknown format version")
    shape, is_fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise _Refused(f"{name} holds Python objects")
    size = math.prod(shape) * dtype.itemsize
    if size > most_bytes:
        raise _Refused(f"{name} is larger than {most_bytes >> 20} MB")
    if min(shape, default=0) < 0 or size > file_size:
        raise ValueError
    content = stream.read(size)
    if len(content) != size:
        raise ValueError
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype=dtype)
    values = np.frombuffer(content, dtype=dtype)
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)
