"""Records of any form to samples: mappings, pairs, bare values; and their time stamps."""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.clock import LOCAL
from edgesparse_runtime.data.column_names import TIMES, USUAL_NAMES, plain_name
from edgesparse_runtime.data.plain_number import to_plain
from edgesparse_runtime.data.readers.text import MISSING, TRUTH
from edgesparse_runtime.data.stream_clock import StreamClock
from edgesparse_runtime.data.times.number_scale import LONGEST, UNITS, unit_of_name
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.sample import Sample

Record = Mapping[str, Any] | tuple[Any, npt.ArrayLike] | npt.ArrayLike
# Calendar times from year 5 on can be written in any zone.
EARLIEST_TIME = -6.2e10
# Bytes of a machine's name.
LONGEST_NAME = 256
# Machines whose kind of time is remembered; as many as are scored.
_MOST_CLOCKS = 1000


@dataclass
class _Times:
    """What is known of the time stamps of one machine: whether it has any, and how they are written."""

    clock: StreamClock
    is_timed: bool | None = None


class SampleParser:
    """Makes samples with the model's channels, in its order.

    Args:
        session: the model that will read them.
        counts: where infinite values are counted.
        time_column: name of the time stamp; None = time, timestamp and the like, as in files, t or step.
        time_unit: of times that are numbers: s, ms, us or ns; None = seconds, or finer where the first time
            of a machine is too large for them; a column that states another unit is refused.

    Every machine has time stamps of one kind, its own: none, numbers, or calendar times.
    """

    def __init__(
        self,
        session: Session,
        counts: Counts,
        *,
        time_column: str | None = None,
        time_unit: str | None = None,
    ) -> None:
        if time_unit is not None and time_unit not in UNITS:
            raise InputError(f"`time_unit` must be {', '.join(UNITS)}; got {time_unit}.")
        assert isinstance(session.channel_count, int)
        self.channels = session.channels or generic_names(session.channel_count)
        self.time_unit = time_unit
        self.time_column = time_column
        self._counts = counts
        self._time_names = (time_column,) if time_column else (*USUAL_NAMES["time"], *TIMES)
        self._lower_time_names = frozenset(name.lower() for name in self._time_names)
        # Channels that were seen as numbers: true and false are no values of theirs.
        self._numbers: set[str] = set()
        self._clocks: dict[tuple[str, str], _Times] = {}
        # The first cell that was lost, until its source has been told.
        self.lost: str | None = None

    def to_sample(
        self, record: Record, *, arrived: float | None = None, machine: str = "", topic: str = ""
    ) -> Sample:
        """The sample of one record. A value that is no number is missing, unless all are.

        Args:
            arrived: when it came in, of `time.perf_counter`; None = now.
            machine: where it comes from, unless the record names another.
            topic: the broker's topic that it came on.

        Raises:
            InputError: not one of the forms, another number of channels, no numbers, or another kind of time
                than this machine had.
        """
        stamp: object = None
        cells: Any
        if isinstance(record, Mapping):
            stamp, machine, cells = self._from_mapping(record, machine)
        elif isinstance(record, tuple) and len(record) == 2 and np.ndim(record[1]) == 1:
            stamp, cells = record
        else:
            cells = record
        if not _is_name(machine):
            raise InputError(f"A machine's name must be text of at most {LONGEST_NAME} bytes.")
        values = self._values(cells)
        times = self._times(topic, machine)
        seconds, is_calendar = self._time(stamp, times)
        clock = times.clock.clock
        return Sample(
            values,
            seconds,
            time.perf_counter() if arrived is None else arrived,
            machine,
            topic,
            is_calendar=is_calendar,
            is_local=is_calendar and clock is not None and clock.zone == LOCAL,
            unit=1.0 if clock is None else clock.unit,
        )

    def find_columns(self, names: Sequence[str]) -> tuple[int | None, int | None, list[int]]:
        """Places of time, machine and each channel among a table's columns.

        Columns beyond the model's are ignored. Where the model was trained without channel names and
        none of them is there, the columns that are neither time, machine nor label are used in order.

        Raises:
            InputError: a channel is missing.
        """
        lower = [name.lower() for name in names]
        twice = next((name for name in self.channels if list(names).count(name) > 1), None)
        if twice is not None:
            raise InputError(f"The stream must have each channel once; {twice} is in its header twice.")
        free = ["" if name in self.channels else name.lower() for name in names]
        key = self._time_name(names)
        stamp = None if key is None else list(names).index(key)
        if stamp is None and self.time_column is not None:
            raise InputError(f"The stream must have a column {self._time_names[0]}; got {', '.join(names)}.")
        named = self._machine_name(names)
        machine = None if named is None else list(names).index(named)
        for place in (stamp, machine):
            if place is not None and free.count(free[place]) > 1:
                raise InputError(f"The stream must have {names[place]} once; it is in its header twice.")
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

    def time_key(self, record: Mapping[str, Any]) -> str | None:
        """The key of a record that holds its time, in any case; a channel is no time."""
        return self._time_name(tuple(record))

    def _time_name(self, names: Sequence[str]) -> str | None:
        """The name that means the time stamp.

        Raises:
            InputError: it states a unit that the times were not said to have.
        """
        lower = {str(name).lower(): name for name in reversed(names) if name not in self.channels}
        found = next((lower[name.lower()] for name in self._time_names if name.lower() in lower), None)
        if found is None and self.time_column is None:
            found = next((name for name in lower.values() if _is_time_with_unit(name)), None)
        unit = None if found is None or self.time_unit is not None else unit_of_name(found)
        if unit is not None and unit != UNITS["s"]:
            known = next((name for name, seconds in UNITS.items() if seconds == unit), None)
            cure = f"Give --time-column '{found}' --time-unit {known}." if known else "Convert it to seconds."
            raise InputError(
                f"The stream's times must be seconds; the name {found} states another unit. {cure}"
            )
        return found

    def _machine_name(self, names: Sequence[str]) -> str | None:
        """The name that means the machine, in any case; a channel is no machine."""
        lower = {str(name).lower(): name for name in reversed(names) if name not in self.channels}
        return next((lower[name] for name in USUAL_NAMES["group"] if name in lower), None)

    def unknown_keys(self, record: Mapping[str, Any]) -> set[str]:
        """Keys of a record that are neither channel, time, machine nor label."""
        known = self._lower_time_names.union(*(USUAL_NAMES[role] for role in ("group", "label", "series")))
        return {key[:40] for key in record if key not in self.channels and key.lower() not in known}

    def has_name_among(self, names: Sequence[str]) -> bool:
        """Whether one of them is a channel's or the time stamp's: a header, not garbage."""
        return any(name in self.channels or name.lower() in self._lower_time_names for name in names)

    def _from_mapping(self, record: Mapping[str, Any], machine: str) -> tuple[object, str, list[Any]]:
        key = self.time_key(record)
        if key is None and self.time_column is not None:
            raise InputError(f"A sample must have its time in {self.time_column}; got {_names(record)}.")
        stamp = None if key is None else record[key]
        name = self._machine_name(tuple(record))
        named = machine if name is None or record[name] is None else record[name]
        machine = _to_name(named)
        if not any(name in record for name in self.channels):
            raise InputError(
                f"A sample must name at least one of the channels {', '.join(self.channels)}; "
                f"got {_names(record)}."
            )
        return stamp, machine, [record.get(name) for name in self.channels]

    def _values(self, cells: Any) -> npt.NDArray[np.float32]:
        try:
            # numpy takes 1_1 for eleven.
            is_doubtful = any(isinstance(cell, str) and "_" in cell for cell in cells)
            with np.errstate(over="ignore"):
                values = None if is_doubtful else np.array(cells, dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            values = None
        if values is None:
            values = self._values_that_can_be_read(cells)
        elif len(self._numbers) < len(self.channels):
            self._numbers.update(self.channels)
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

    def _values_that_can_be_read(self, cells: Any) -> npt.NDArray[np.float32]:
        """One bad cell loses that cell: the other sensors of the sample are right."""
        values, bad, lost = [], 0, ""
        for name, cell in zip(self.channels, cells, strict=False):
            try:
                values.append(self._to_value(name, cell))
            except (TypeError, ValueError, OverflowError):
                values.append(math.nan)
                bad += 1
                lost = lost or f"{name} must be a number; got {str(cell)[:40]!r}."
        if bad and np.isnan(values).all():
            raise InputError(f"A sample's values must be numbers; got {str(cells)[:80]}.")
        self._counts.bad_cells += bad
        self.lost = self.lost or lost or None
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float32)

    def _to_value(self, name: str, cell: object) -> float:
        """A number, or 1 and 0 of a switch that has been true or false alone, as in files."""
        truth = TRUTH.get(cell.strip().lower()) if isinstance(cell, str) else None
        if truth is not None and name not in self._numbers:
            return truth
        value = to_number(cell)
        if not math.isnan(value):
            self._numbers.add(name)
        return value

    def _times(self, topic: str, machine: str) -> _Times:
        times = self._clocks.get((topic, machine))
        if times is None:
            times = _Times(StreamClock(self.time_unit))
            if len(self._clocks) < _MOST_CLOCKS:
                self._clocks[topic, machine] = times
        return times

    def _time(self, stamp: object, times: _Times) -> tuple[float | None, bool]:
        """Seconds, and whether they are a calendar time; None where the machine has no time stamps."""
        if stamp is None or (isinstance(stamp, str) and not stamp.strip()):
            if times.is_timed:
                raise InputError("A sample must have a time stamp as those before it had; this one has none.")
            times.is_timed = False
            return None, False
        if times.is_timed is False:
            raise InputError("A sample must have no time stamp, as those before it had none; this one has.")
        seconds = times.clock.seconds(stamp)
        assert times.clock.clock is not None
        is_calendar = times.clock.clock.is_calendar
        if is_calendar and not EARLIEST_TIME <= seconds <= LONGEST:
            raise InputError(f"A calendar time must lie between the years 5 and 5138; got {str(stamp)[:40]}.")
        times.is_timed = True
        return seconds, is_calendar


@lru_cache(maxsize=256)
def _is_time_with_unit(name: str) -> bool:
    """`time_ms`, `Time (s)`, `timestamp [us]`; `cycle_time_ms` is a signal."""
    words = [word for word in re.split(r"[\s_\-]+", plain_name(name)) if word]
    if unit_of_name(name) is None or not words:
        return False
    return words[0] in TIMES and (len(words) == 1 or (len(words) == 2 and unit_of_name(words[1]) is not None))


def _to_name(cell: object) -> str:
    """A machine's name as in files: blanks around it, the ways to write an umlaut and 1.0 for 1 are one."""
    if isinstance(cell, (dict, list)):
        raise InputError(f"A machine must be a name or a number; got {str(cell)[:40]}.")
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(str(name)[:40] for name in list(record)[:6]) or "nothing"


def _is_name(machine: str) -> bool:
    try:
        return len(machine) <= LONGEST_NAME and len(machine.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def to_number(cell: object) -> float:
    """A number, NaN for the usual notations of a missing value; raises `ValueError` otherwise."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING):
        return math.nan
    if isinstance(cell, str):
        return to_plain(cell)
    if not isinstance(cell, (int, float, np.number)):
        raise ValueError(f"not a number: {cell!r}")
    return float(cell)
