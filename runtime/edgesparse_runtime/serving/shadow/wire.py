"""Messages between a server and its shadow's process: a line of JSON, then the arrays that it announces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from edgesparse_runtime.arrays import FloatArray

# Of a line; nobody sends longer ones.
_LONGEST = 1 << 16


def send(stream: IO[bytes], head: dict[str, Any], arrays: Sequence[FloatArray] = ()) -> None:
    """Write one message.

    Raises:
        OSError: nobody reads any more.
    """
    shapes = [array.shape for array in arrays]
    stream.write(json.dumps({**head, "shapes": shapes}).encode() + b"\n")
    for array in arrays:
        stream.write(np.ascontiguousarray(array, dtype="<f4").data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[FloatArray]] | None:
    """Read one message; None where the other side has ended, if in the middle of one."""
    try:
        line = stream.readline(_LONGEST)
        head = json.loads(line) if line.endswith(b"\n") else None
    except (OSError, ValueError):
        return None
    if not isinstance(head, dict):
        return None
    arrays: list[FloatArray] = []
    for shape in head.pop("shapes", []):
        content = stream.read(4 * int(np.prod(shape)))
        if len(content) < 4 * int(np.prod(shape)):
            return None
        arrays.append(np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False).reshape(shape))
    return head, arrays
