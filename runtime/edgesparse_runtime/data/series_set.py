"""A set of multichannel series: what every reader returns and every verb takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.errors import InputError

# Fields with one entry per series.
COLUMNS = ("labels", "groups", "ids", "recordings", "starts")
Labels = npt.NDArray[np.str_] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Role:
    """What one column of a file was taken for.

    Attributes:
        column: its name in the file.
        role: "time", "series", "group", "label", "channel" or "left out".
        reason: why, in words.
    """

    column: str
    role: str
    reason: str

    def __str__(self) -> str:
        return f"{self.column} = {self.role} ({self.reason})"


@dataclass(frozen=True)
class Grid:
    """How a recording is cut, in every verb; a run and a bundle's manifest (`input`) store it.

    Attributes:
        window: steps of a window; None = whole series.
        stride: steps between windows; None = `window`.
        period: seconds between steps; None = unknown, or the data count steps.
        zone: of its times, as `Clock.zone`.
    """

    window: int | None = None
    stride: int | None = None
    period: float | None = None
    zone: str | None = None


@dataclass(frozen=True)
class SeriesSet:
    """Series of possibly unequal length, with labels and groups where the source has them.

    Attributes:
        series: one float32 array [channels, time] per series; NaN = missing value.
        channels: channel names, in the order of axis 0.
        labels: class names (str) or targets (float64), one per series; None = unlabeled.
        groups: the machine, run or person a series comes from; None = unknown.
        source: file name, for messages.
        ids: the series as the file names them; None = it does not.
        recordings: the recording that each window was cut from.
        starts: time of the first step as the file writes it, or its number in the series.
        grid: how they were cut.
        units: one per channel, None = unknown; () = none is known.
        roles: what each column of a table was taken for.
        notes: what a reader of the results should know, a sentence each.
    """

    series: Sequence[FloatArray]
    channels: tuple[str, ...]
    labels: Labels | None = None
    groups: npt.NDArray[np.str_] | None = None
    source: str = ""
    ids: npt.NDArray[np.str_] | None = None
    recordings: npt.NDArray[np.str_] | None = None
    starts: npt.NDArray[np.str_] | None = None
    grid: Grid = field(default_factory=Grid)
    units: tuple[str | None, ...] = ()
    roles: tuple[Role, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = self.source or "data"
        for name in COLUMNS:
            column = getattr(self, name)
            if column is not None and not isinstance(column, np.ndarray):
                column = np.asarray(column)
                object.__setattr__(self, name, column.astype(np.str_) if column.dtype.kind == "O" else column)
        for i, x in enumerate(self.series):
            if x.ndim != 2 or x.shape[0] != len(self.channels):
                raise InputError(
                    f"{where}: series {i} must have shape [{len(self.channels)}, time]; got {list(x.shape)}."
                )
        for name in COLUMNS:
            column = getattr(self, name)
            if column is not None and len(column) != len(self.series):
                raise InputError(
                    f"{where}: `{name}` must have one entry per series ({len(self.series)}); "
                    f"got {len(column)}."
                )

    def __len__(self) -> int:
        return len(self.series)

    @property
    def lengths(self) -> list[int]:
        """Steps of each series."""
        return [x.shape[1] for x in self.series]

    def is_equal_length(self) -> bool:
        """Whether all series have the same length."""
        return len(set(self.lengths)) <= 1

    def with_series(self, series: Sequence[FloatArray], **changes: Any) -> SeriesSet:
        """The same labels, groups and origins with other values."""
        return replace(self, series=series, **changes)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> SeriesSet:
        """The series at `indices`, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        columns = {name: getattr(self, name) for name in COLUMNS}
        kept: dict[str, Any] = {k: None if c is None else c[index] for k, c in columns.items()}
        return replace(self, series=[self.series[i] for i in index], **kept)

    def to_batch(self) -> FloatArray:
        """All series as one array [n, channels, time], padded with NaN."""
        longest = max(self.lengths, default=0)
        batch = np.full((len(self), len(self.channels), longest), np.nan, dtype=np.float32)
        for row, x in zip(batch, self.series, strict=True):
            row[:, : x.shape[1]] = x
        return batch
