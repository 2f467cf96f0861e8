"""Read an .npz file that may come from anywhere: no pickles, and sizes are checked before memory is taken."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import BundleError

LARGEST_ARRAYS = 512 << 20


def read_arrays(
    content: bytes, name: str, *, advice: str = "Export the bundle again."
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file by name; floating ones as float32.

    Args:
        advice: what to do when the file is damaged.

    Raises:
        BundleError: not an .npz file, an array of objects, or more than 512 MB in all.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    left = LARGEST_ARRAYS
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    major = np.lib.format.read_magic(stream)[0]
                    header = np.lib.format.read_array_header_1_0 if major == 1 else None
                    if header is None:
                        raise ValueError(f"{member.filename} has an unknown format version")
                    shape, fortran, dtype = header(stream)
                    size = math.prod(shape) * dtype.itemsize
                    left -= size
                    if dtype.hasobject or left < 0 or size > member.file_size:
                        raise ValueError(f"{member.filename} is too large, or holds objects")
                    values = np.frombuffer(stream.read(size), dtype=dtype)
                order = "F" if fortran else "C"
                array = values.reshape(shape, order=order)  # type: ignore[call-overload]
                floating = np.issubdtype(dtype, np.floating)
                arrays[member.filename.removesuffix(".npy")] = array.astype(np.float32) if floating else array
    except Exception as error:  # a damaged zip file or header raises many kinds
        raise BundleError(f"{name} must hold arrays; {error}. {advice}") from None
    return arrays
