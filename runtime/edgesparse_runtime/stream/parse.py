"""Records of any form to samples: mappings, pairs, bare values; and the time stamps in them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.column_names import USUAL_NAMES
from edgesparse_runtime.data.readers.text import MISSING
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.sample import Sample

Record = Mapping[str, Any] | tuple[Any, npt.ArrayLike] | npt.ArrayLike
TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# Seconds; year 5138. What lies beyond is in another unit.
LONGEST_TIME = 1e11


class SampleParser:
    """Makes samples with the model's channels, in its order.

    Args:
        session: the model that will read them.
        counts: where infinite values are counted.
        time_column: name of the time stamp; None = time, timestamp, t or step.
        time_unit: of times that are numbers: s, ms, us or ns.

    Attributes:
        iso_times: time stamps are calendar times, not bare numbers; known from the first sample on.
    """

    def __init__(
        self, session: Session, counts: Counts, *, time_column: str | None = None, time_unit: str = "s"
    ) -> None:
        if time_unit not in TIME_UNITS:
            raise InputError(f"`time_unit` must be {', '.join(TIME_UNITS)}; got {time_unit}.")
        assert isinstance(session.channel_count, int)
        self.channels = session.channels or generic_names(session.channel_count)
        self.unit = TIME_UNITS[time_unit]
        self.iso_times = False
        self._counts = counts
        self._time_names = (time_column,) if time_column else USUAL_NAMES["time"]
        self._is_timed: bool | None = None

    def to_sample(self, record: Record, *, arrived: float | None = None, machine: str = "") -> Sample:
        """A sample of one record.

        Args:
            arrived: when it came in, of `time.perf_counter`; None = now.
            machine: where it comes from, unless the record says so.

        Raises:
            InputError: not one of the forms, another number of channels, or not numbers.
        """
        stamp: object = None
        cells: Any
        if isinstance(record, Mapping):
            stamp, machine, cells = self._from_mapping(record, machine)
        elif isinstance(record, tuple) and len(record) == 2 and np.ndim(record[1]) == 1:
            stamp, cells = record
        else:
            cells = record
        return Sample(
            values=self._values(cells),
            time=self._time(stamp),
            arrived=time.perf_counter() if arrived is None else arrived,
            machine=machine,
        )

    def find_columns(self, names: Sequence[str]) -> tuple[int | None, int | None, list[int]]:
        """Places of time, machine and each channel among a table's columns.

        Columns beyond the model's are left alone. Where the model was trained without channel names and
        none of them is there, the columns that are neither time, machine nor label are taken in order.

        Raises:
            InputError: a channel is missing.
        """
        lower = [name.lower() for name in names]
        twice = next((name for name in self.channels if list(names).count(name) > 1), None)
        if twice is not None:
            raise InputError(f"The stream must have each channel once; {twice} stands in its header twice.")
        stamp = next((lower.index(n.lower()) for n in self._time_names if n.lower() in lower), None)
        if stamp is None and self._time_names not in (USUAL_NAMES["time"],):
            raise InputError(f"The stream must have a column {self._time_names[0]}; got {', '.join(names)}.")
        machine = next((lower.index(n) for n in USUAL_NAMES["group"] if n in lower), None)
        if all(name in names for name in self.channels):
            return stamp, machine, [list(names).index(name) for name in self.channels]
        label = {i for i, name in enumerate(lower) if name in USUAL_NAMES["label"] + USUAL_NAMES["series"]}
        rest = [i for i in range(len(names)) if i not in label | {stamp, machine}]
        if self.channels == generic_names(len(self.channels)) and len(rest) == len(self.channels):
            return stamp, machine, rest
        missing = [name for name in self.channels if name not in names]
        raise InputError(
            f"The stream must have the channel(s) {', '.join(self.channels)}; "
            f"{', '.join(missing)} is missing from {', '.join(names)}."
        )

    def has_name_among(self, names: Sequence[str]) -> bool:
        """Whether one of them is a channel's or the time stamp's: a header and no rubbish."""
        return any(name in self.channels or name.lower() in self._time_names for name in names)

    def _from_mapping(self, record: Mapping[str, Any], machine: str) -> tuple[object, str, list[Any]]:
        stamp = next((record[n] for n in self._time_names if n in record), None)
        named = next((record[n] for n in USUAL_NAMES["group"] if n in record), machine)
        if isinstance(named, (dict, list)):
            raise InputError(f"A machine must be a name or a number; got {str(named)[:40]}.")
        machine = str(named)
        if not any(name in record for name in self.channels):
            raise InputError(
                f"A sample must name at least one of the channels {', '.join(self.channels)}; "
                f"got {', '.join(map(str, list(record)[:6])) or 'nothing'}."
            )
        return stamp, machine, [record.get(name) for name in self.channels]

    def _values(self, cells: Any) -> npt.NDArray[np.float32]:
        try:
            with np.errstate(over="ignore"):
                values = np.array(cells, dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            try:
                with np.errstate(over="ignore"):
                    values = np.array([to_number(cell) for cell in cells], dtype=np.float32)
            except (TypeError, ValueError, OverflowError):
                raise InputError(f"A sample's values must be numbers; got {str(cells)[:80]}.") from None
        if values.shape != (len(self.channels),):
            raise InputError(
                f"A sample must have {len(self.channels)} value(s), {', '.join(self.channels)}; "
                f"got shape {list(values.shape)}."
            )
        infinite = np.isinf(values)
        if infinite.any():
            self._counts.not_finite += int(infinite.sum())
            values[infinite] = np.nan
        return values

    def _time(self, stamp: object) -> float | None:
        """Seconds; None where the stream has no time stamps."""
        if stamp is None or (isinstance(stamp, str) and not stamp.strip()):
            if self._is_timed:
                raise InputError("A sample must have a time stamp as those before it had; this one has none.")
            self._is_timed = False
            return None
        if self._is_timed is False:
            raise InputError("A sample must have no time stamp, as those before it had none; this one has.")
        seconds, is_calendar = to_seconds(stamp, self.unit)
        if self._is_timed and is_calendar != self.iso_times:
            raise InputError(f"A time stamp must be of the same kind as those before it; got {stamp!r}.")
        self._is_timed, self.iso_times = True, is_calendar
        return seconds


def to_number(cell: object) -> float:
    """A number, NaN for the usual ways to write a missing value; raises `ValueError` otherwise."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING):
        return math.nan
    if not isinstance(cell, (int, float, str, np.number)):
        raise ValueError(f"not a number: {cell!r}")
    return float(cell)


def to_seconds(stamp: object, unit: float) -> tuple[float, bool]:
    """Seconds since 1970 or since any start, and whether it was a calendar time.

    Args:
        stamp: a number of `unit` seconds each, ISO 8601 text (without a zone: UTC), or a `datetime`.

    Raises:
        InputError: something else, or not finite.
    """
    if isinstance(stamp, (int, float, np.number)) and not isinstance(stamp, bool):
        try:
            seconds = float(stamp) * unit
        except OverflowError:
            seconds = math.inf
    elif isinstance(stamp, str):
        try:
            seconds = float(stamp) * unit
        except ValueError:
            try:
                stamp = datetime.fromisoformat(stamp.strip())
            except ValueError:
                raise InputError(
                    f"A time stamp must be a number or ISO 8601; got {str(stamp)[:40]!r}."
                ) from None
    if isinstance(stamp, np.datetime64):
        return float(stamp.astype("datetime64[ns]").astype(np.int64)) * 1e-9, True
    if isinstance(stamp, datetime):
        aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
        return aware.timestamp(), True
    if not isinstance(stamp, (int, float, np.number, str)) or isinstance(stamp, bool):
        raise InputError(f"A time stamp must be a number or ISO 8601; got {str(stamp)[:40]!r}.")
    if not math.isfinite(seconds):
        raise InputError(f"A time stamp must be finite; got {str(stamp)[:40]}.")
    if abs(seconds) > LONGEST_TIME:
        raise InputError(
            f"A time stamp must lie within {LONGEST_TIME:g} seconds; got {str(stamp)[:40]}. "
            "`--time-unit` says what it counts: s, ms, us or ns."
        )
    return seconds, False
