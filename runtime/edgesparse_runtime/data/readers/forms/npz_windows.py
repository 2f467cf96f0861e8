"""Windows of a large uncompressed .npz archive, read from the file as they are needed.

`numpy.savez` stores an array as it is: where it begins is known, and any window can be read alone. So a data
set may be larger than memory. A compressed archive, one with a mask, and an array in Fortran order are read
whole, as smaller ones are.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.model_inputs import without_padding
from edgesparse_runtime.data.series_set import COLUMNS, SeriesSet
from edgesparse_runtime.errors import InputError

# Bytes of an array from which its windows stay in the file.
LARGE = 128 << 20
# A series is some Python objects, however short: of fewer bytes each they are read whole, or refused.
LEAST = 256
# Bytes that are read at once where all windows are looked at.
BLOCK = 4 << 20
# Of a zip archive's local header: 26 bytes, then the lengths of a name and of a field that follow it.
_LOCAL, _LOCAL_BYTES = struct.Struct("<HH"), 30

Index = npt.NDArray[np.int64]


class NpzWindows(Sequence[FloatArray]):
    """Windows [n, channels, time] of an array in a file.

    Args:
        path: of the file.
        offset: of the array's first byte.
        dtype: of its values.
        shape: [n, channels, time].
        rows: which windows, in this order; None = all.
        lengths: steps without the padding at the end (NaN in every channel), of `rows`; None = it is
            looked for.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, int, int],
        rows: Index | None = None,
        lengths: Index | None = None,
    ) -> None:
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape
        self.channels = shape[1]
        self.rows: Index = np.arange(shape[0]) if rows is None else rows
        self.lengths = np.full(len(self.rows), shape[2], dtype=np.int64)
        self.lengths = self._found_lengths() if lengths is None else lengths

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: SupportsIndex) -> FloatArray: ...

    @overload
    def __getitem__(self, index: slice) -> NpzWindows: ...

    def __getitem__(self, index: SupportsIndex | slice) -> FloatArray | NpzWindows:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        at = range(len(self))[index.__index__()]
        return self._read(self.rows[at : at + 1])[0, :, : self.lengths[at]]

    def __iter__(self) -> Iterator[FloatArray]:
        at = 0
        for block in self._blocks():
            for x in block:
                yield x[:, : self.lengths[at]]
                at += 1

    def take(self, index: Index) -> NpzWindows:
        """The windows at `index`, still in the file."""
        return NpzWindows(
            self.path, self.offset, self.dtype, self.shape, self.rows[index], self.lengths[index]
        )

    def read(self, index: Index) -> FloatArray:
        """The windows at `index`, [n, channels, time]."""
        return self._read(self.rows[index])

    def _blocks(self) -> Iterator[FloatArray]:
        most = max(1, BLOCK // (4 * max(1, math.prod(self.shape[1:]))))
        for first in range(0, len(self.rows), most):
            yield self._read(self.rows[first : first + most])

    def _read(self, rows: Index) -> FloatArray:
        values = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        size = math.prod(self.shape[1:])
        # Rows that follow each other are read at once.
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        with self.path.open("rb", buffering=0) as file:
            for part in np.split(np.arange(len(rows)), ends):
                if not len(part):
                    continue
                file.seek(self.offset + int(rows[part[0]]) * size * self.dtype.itemsize)
                found = np.fromfile(file, dtype=self.dtype, count=len(part) * size)
                if len(found) < len(part) * size:
                    raise InputError(f"{self.path} must stay as it is while it is read; it was cut short.")
                values[part] = found.reshape(-1, *self.shape[1:])
        # A float64 beyond float32 becomes infinite, which is refused by name.
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)

    def _found_lengths(self) -> Index:
        found, at = self.lengths.copy(), 0
        for block in self._blocks():
            for i in np.flatnonzero(np.isnan(block[:, :, -1]).all(axis=1)) if self.shape[2] else ():
                found[at + i] = without_padding(block[i]).shape[1]
            at += len(block)
        return found


@dataclass(frozen=True)
class StoredSet(SeriesSet):
    """A set whose windows stay in their file."""

    series: NpzWindows

    def __post_init__(self) -> None:
        """Nothing is read: shapes and columns were checked with the array."""

    @property
    def lengths(self) -> list[int]:
        """Steps of each window."""
        return [int(n) for n in self.series.lengths]

    def with_series(self, series: Sequence[FloatArray], **changes: Any) -> SeriesSet:
        """The same labels, groups and origins with other values, which are in memory or not."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)} | changes
        kind = StoredSet if isinstance(series, NpzWindows) else SeriesSet
        return kind(**kept | {"series": series})

    def take(self, indices: Sequence[int] | Index) -> StoredSet:
        """The windows at `indices`, still in their file."""
        index = np.asarray(indices, dtype=np.int64)
        columns = {name: getattr(self, name) for name in COLUMNS}
        kept: dict[str, Any] = {k: None if column is None else column[index] for k, column in columns.items()}
        return replace(self, series=self.series.take(index), **kept)


def find_windows(path: Path) -> NpzWindows | None:
    """The array X of an archive that is large and can be read in parts; None = it is to be read whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names.count("X.npy") != 1 or "mask.npy" in names:
                return None
            member = archive.getinfo("X.npy")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size < LARGE:
                return None
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                reader = {(1, 0): np.lib.format.read_array_header_1_0}.get(version)
                shape, is_fortran, dtype = (reader or np.lib.format.read_array_header_2_0)(stream)
                header = stream.tell()
        with path.open("rb") as file:
            file.seek(member.header_offset + _LOCAL_BYTES - _LOCAL.size)
            start = member.header_offset + _LOCAL_BYTES + sum(_LOCAL.unpack(file.read(_LOCAL.size)))
    except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError, RuntimeError):
        # Whoever reads it whole says what is wrong.
        return None
    size = math.prod(shape) * dtype.itemsize
    is_whole = header + size == member.file_size and start + member.file_size <= path.stat().st_size
    if is_fortran or dtype.kind not in "fiub" or len(shape) not in (2, 3) or not is_whole:
        return None
    if size < LEAST * shape[0]:
        return None
    n, channels, steps = shape if len(shape) == 3 else (shape[0], 1, shape[1])
    return NpzWindows(path, start + header, dtype, (n, channels, steps))
