"""Outputs of a model to the bytes of an answer, made piece by piece while they are sent.

An explanation of a long window is some hundred megabytes of JSON; its arrays are a fifth of that, and only
they are held until the client has read everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.serving.protocol.requests import InferRequest

# Values per piece of a body, and bytes of a raw one.
PIECE = 1 << 16
_DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.bool_): "BOOL"}


@dataclass(frozen=True)
class _Booleans:
    """The JSON of a bool array's values, without brackets."""

    values: npt.NDArray[np.bool_]

    @property
    def length(self) -> int:
        count = self.values.size
        return 6 * count - int(np.count_nonzero(self.values)) - bool(count)

    def pieces(self) -> Iterator[bytes]:
        flat = self.values.reshape(-1)
        for i in range(0, flat.size, PIECE):
            text = flat[i : i + PIECE].tobytes().replace(b"\1", b"true,").replace(b"\0", b"false,")
            yield text[:-1] if i + PIECE >= flat.size else text


@dataclass(frozen=True)
class Answer:
    """A body that is made while it is sent.

    Attributes:
        length: bytes of the body.
        head_length: of its JSON when raw tensors follow it; None = JSON alone.
        held: bytes in memory until it is sent.
    """

    parts: tuple[bytes | memoryview | _Booleans, ...]
    length: int
    head_length: int | None
    held: int

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces that take a millisecond each."""
        for part in self.parts:
            if isinstance(part, _Booleans):
                yield from part.pieces()
            else:
                for i in range(0, len(part), PIECE):
                    yield bytes(part[i : i + PIECE])

    def content(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces())


def write_answer(
    request: InferRequest,
    name: str,
    version: str,
    parameters: Mapping[str, Any],
    outputs: Mapping[str, npt.NDArray[Any]],
) -> Answer:
    """The answer of a model to a request: the outputs that it requires, as JSON or raw."""
    facts: dict[str, Any] = {"model_name": name, "model_version": version}
    if request.id is not None:
        facts["id"] = request.id
    facts["parameters"] = parameters
    head: list[bytes | memoryview | _Booleans] = [_json(facts)[:-1] + b', "outputs": [']
    raw: list[bytes | memoryview | _Booleans] = []
    wanted = [output for output in outputs if not request.outputs or output in request.outputs]
    for place, output in enumerate(wanted):
        array = np.ascontiguousarray(outputs[output])
        entry: dict[str, Any] = {
            "name": output,
            "datatype": _DATATYPES[array.dtype],
            "shape": list(array.shape),
        }
        comma = b", " if place else b""
        if request.wants_binary(output):
            entry["parameters"] = {"binary_data_size": array.nbytes}
            head.append(comma + _json(entry))
            if array.nbytes:
                raw.append(array.data.cast("B"))
        else:
            values = _Booleans(array) if array.dtype.kind == "b" else _json(to_json(array))[1:-1]
            head += [comma + _json(entry)[:-1] + b', "data": [', values, b"]}"]
    head.append(b"]}")
    head_length = sum(map(_length, head))
    parts = (*head, *raw)
    held = sum(part.values.nbytes if isinstance(part, _Booleans) else len(part) for part in parts)
    return Answer(parts, head_length + sum(map(_length, raw)), head_length if raw else None, held)


def to_json(array: npt.NDArray[Any]) -> list[Any]:
    """Row-major values for JSON; NaN becomes null."""
    values = array.ravel().tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [v if math.isfinite(v) else None for v in values]
    return values


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode("ascii")


def _length(part: bytes | memoryview | _Booleans) -> int:
    return part.length if isinstance(part, _Booleans) else len(part)
