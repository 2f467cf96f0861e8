"""Reads a model file of CTranslate2 (version 6): named tensors, some of them names for others.

```
u32 version, string specification, u32 revision, u32 tensors
tensors times: string name, u8 rank, u32 dimensions [rank], u8 type, u32 bytes, the data
u32 aliases
aliases times: string name, string of the tensor it stands for
```

A string is a u16 length, its end (a zero byte) included, and its bytes. Types: 0 float32, 1 int8, 2 int16,
3 int32, 4 float16. An int8 weight `W` comes with a float32 `W_scale`, one a row: the weight is `W / scale`.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesparse_runtime.errors import InputError

VERSION = 6
TYPES = ("<f4", "i1", "<i2", "<i4", "<f2")
FloatArray = NDArray[np.float32]


def read_ctranslate2(path: Path, *parts: Path) -> dict[str, FloatArray]:
    """All tensors by name as float32, aliases resolved, int8 weights multiplied out.

    Args:
        path: the file, or the first part of it.
        parts: what follows it, in order.

    Raises:
        InputError: another version, a type that is not known, or a file that ends too early.
    """
    reader = _Reader(path, *parts)
    version = reader.number("I")
    if version != VERSION:
        raise InputError(f"{path} must be a CTranslate2 file of version {VERSION}; got {version}.")
    reader.string()
    reader.number("I")
    raw = dict(reader.tensor() for _ in range(reader.number("I")))
    for _ in range(reader.number("I")):
        name, target = reader.string(), reader.string()
        raw[name] = raw[target]
    tensors = {}
    for name, value in raw.items():
        scale = raw.get(f"{name}_scale")
        real = value.astype(np.float32)
        if value.dtype == np.int8 and scale is not None:
            real = real / scale.astype(np.float32).reshape(-1, *[1] * (value.ndim - 1))
        tensors[name] = real
    return tensors


class _Reader:
    """A place in the file's bytes."""

    def __init__(self, path: Path, *parts: Path) -> None:
        self._path = path
        self._content = b"".join(part.read_bytes() for part in (path, *parts))
        self._at = 0

    def number(self, kind: str) -> int:
        """One little-endian number of `struct`'s kind."""
        return int(struct.unpack("<" + kind, self._take(struct.calcsize("<" + kind)))[0])

    def string(self) -> str:
        """One string without its final zero."""
        return self._take(self.number("H")).rstrip(b"\0").decode()

    def tensor(self) -> tuple[str, NDArray[np.generic]]:
        """One tensor as it is stored."""
        name = self.string()
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind = self.number("B")
        if kind >= len(TYPES):
            raise InputError(f"{self._path}: the type of {name} must be 0 to {len(TYPES) - 1}; got {kind}.")
        values = np.frombuffer(self._take(self.number("I")), dtype=TYPES[kind])
        return name, values.reshape(shape)

    def _take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise InputError(
                f"{self._path} ends too early: {count} bytes wanted at {self._at}. Install it again."
            )
        self._at += count
        return taken
