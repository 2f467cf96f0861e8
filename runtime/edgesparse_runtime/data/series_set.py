"""A set of multichannel series in memory: what every reader returns and every verb takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import InputError


@dataclass(frozen=True)
class SeriesSet:
    """Series of possibly unequal length, with labels and groups where the source has them.

    Attributes:
        series: one float32 array [channels, time] a series; NaN = missing value.
        channels: channel names, in the order of axis 0.
        labels: class names (str) or targets (float64), one a series; None when unlabeled.
        groups: the machine, run or person a series comes from; None when the source has none.
        source: file name, for messages.
    """

    series: Sequence[npt.NDArray[np.float32]]
    channels: tuple[str, ...]
    labels: npt.NDArray[np.str_] | npt.NDArray[np.float64] | None = None
    groups: npt.NDArray[np.str_] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for i, x in enumerate(self.series):
            if x.ndim != 2 or x.shape[0] != len(self.channels):
                raise InputError(
                    f"{self.source or 'data'}: series {i} must have shape "
                    f"[{len(self.channels)}, time]; got {list(x.shape)}."
                )
        for name in ("labels", "groups"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.series):
                raise InputError(
                    f"{self.source or 'data'}: `{name}` must have one entry a series "
                    f"({len(self.series)}); got {len(column)}."
                )

    def __len__(self) -> int:
        return len(self.series)

    def is_equal_length(self) -> bool:
        """True when every series has the same number of steps."""
        return len({x.shape[1] for x in self.series}) <= 1

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> SeriesSet:
        """The series at `indices`, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        return SeriesSet(
            series=[self.series[i] for i in index],
            channels=self.channels,
            labels=None if self.labels is None else self.labels[index],
            groups=None if self.groups is None else self.groups[index],
            source=self.source,
        )

    def to_batch(self) -> npt.NDArray[np.float32]:
        """All series as one array [n, channels, time], the shorter ones ending in NaN (= padding)."""
        longest = max((x.shape[1] for x in self.series), default=0)
        batch = np.full((len(self), len(self.channels), longest), np.nan, dtype=np.float32)
        for row, x in zip(batch, self.series, strict=True):
            row[:, : x.shape[1]] = x
        return batch
