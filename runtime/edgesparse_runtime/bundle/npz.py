"""The .npz files of a bundle, with errors that say what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.bundle.npz_archive import read_npz
from edgesparse_runtime.errors import BundleError


def read_arrays(
    content: bytes, name: str, *, advice: str = "Export the bundle again."
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file by name; floating ones as float32.

    Args:
        advice: what to do when the file is damaged.

    Raises:
        BundleError: not an .npz file, an array of objects, or more than 512 MB in all.
    """
    try:
        arrays = read_npz(content)
    except ValueError as error:
        raise BundleError(f"{name} must hold arrays; {error}. {advice}") from None
    return {
        key: x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x for key, x in arrays.items()
    }
