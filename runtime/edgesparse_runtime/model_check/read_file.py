"""Reads a bare .onnx file."""

from __future__ import annotations

from pathlib import Path

from edgesparse_runtime.bundle.regular_file import open_regular
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.limits import LIMITS


def read_file(path: Path) -> bytes:
    """The content of a file that is no device and not too large.

    Raises:
        BundleError: it is larger than a model may be.
    """
    with open_regular(path) as stream:
        content = stream.read(LIMITS.largest + 1)
    if len(content) > LIMITS.largest:
        raise BundleError(f"{path} must be at most {LIMITS.largest >> 30} GB.")
    return content
