"""One parser of times, for tables, `.ts`, Parquet and streams; the rule is docs/guides/data.md, "Time".

`settle` finds the form of a column of times; the `Clock` that it returns reads one value after the other.
Nothing is ever sorted as text: what has no clock is refused, with its place and value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Literal, TypeGuard

import numpy as np

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.data.plain_number import comma_is, is_plain, to_plain, to_plain_array, without_commas
from edgesparse_runtime.data.times.date_text import DateText, clean, read_date, read_time_of_day
from edgesparse_runtime.data.times.day_order import (
    Order,
    Place,
    date_seconds,
    infer_order,
    is_day,
    midnight,
    ordered,
    shown,
)
from edgesparse_runtime.data.times.number_scale import UNITS, check_one_unit, scale_of
from edgesparse_runtime.errors import InputError

MISSING = frozenset({"", "na", "n/a", "nan", "nat", "null", "none", "?"})
# Of times that are written without a zone.
LOCAL = "local"
_EPOCH_YEAR = 1970
# Digits after the seconds.
_FRACTION = re.compile(r":[0-9]{2}:[0-9]{2}[.,:]([0-9]+)")
Kind = Literal["number", "date", "time of day"]


@dataclass(frozen=True)
class Clock:
    """How the times of one column or stream are written.

    Attributes:
        kind: "number" of units since any start, calendar "date" with time, or "time of day".
        unit: seconds of one unit, of numbers.
        order: of "01/02/2024": "dmy", "mdy" or "ymd"; "" = the text itself is clear.
        is_local: no zone is written; summer time may repeat an hour.
        comma: what commas in numbers are, see `plain_number.comma_is`.
        epoch: seconds since 1970 of the number 0, as of Excel's days; None = any start.
        has_unit: the unit of numbers is known, not assumed to be seconds.
        zone: of dates: "+09:00" as all are written, "several", "local" where none is written; "" = no dates.
    """

    kind: Kind
    unit: float = 1.0
    order: Order = ""
    is_local: bool = False
    comma: str = ""
    epoch: float | None = None
    has_unit: bool = False
    zone: str = field(default="", compare=False)

    @property
    def is_calendar(self) -> bool:
        """Times are dates, not counts from any start."""
        return self.kind == "date" or self.epoch is not None

    def seconds(self, value: object) -> float:
        """Seconds since 1970 (dates, UTC where no zone is written), midnight, or any start.

        Raises:
            ValueError: not of this clock's form.
        """
        found = _read(value, self.comma)
        if found is None or found.kind != self.kind or found.is_local != self.is_local:
            raise ValueError(f"not a time: {value!r}")
        if found.text is not None:
            return date_seconds(found.text, self.order)
        seconds = found.number * (1.0 if found.unit is not None else self.unit) + (self.epoch or 0.0)
        if not math.isfinite(seconds):
            raise ValueError(f"not a finite time: {value!r}")
        return seconds


@dataclass(frozen=True)
class _Found:
    """One value, its meaning still open where `text` has no order."""

    kind: Kind
    number: float = 0.0
    text: DateText | None = None
    unit: float | None = None
    is_local: bool = False


def is_missing(value: object) -> bool:
    """None, NaN, NaT, or one of the ways to write a missing cell."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def settle(
    values: Sequence[object],
    *,
    unit: str | None = None,
    order: Order = "",
    name: str = "time",
    place: Place = lambda i: f"value {i + 1}",
) -> Clock:
    """The form of a column of times, none of them missing.

    Args:
        values: text, numbers, or the time types of Python, numpy and Parquet.
        unit: of numbers: s, ms, us or ns; None = by the column's name, the size of the numbers, else seconds.
        order: of "01/02/2024"; "" = inferred over all values.
        name: of the column.
        place: where value i stands, for messages.

    Raises:
        InputError: a value is no time, or of another form than those before it, or day and month cannot be
            told apart; names place and value.
    """
    return _settle(values, unit, order, name, place)[0]


def read_times(
    values: Sequence[object],
    *,
    unit: str | None = None,
    order: Order = "",
    name: str = "time",
    place: Place = lambda i: f"value {i + 1}",
) -> tuple[Clock, DoubleArray]:
    """The clock of a column, and the seconds of every value in the order in which they stand.

    Raises:
        InputError: as `settle`.
    """
    plain = values.astype(np.float64) if _is_float_array(values) else to_plain_array(values)
    if plain is not None and np.isfinite(plain).all() and not _are_compact_dates(values[0]):
        clock = _number_clock(plain, unit, name, "", place)
        return clock, plain * clock.unit + (clock.epoch or 0.0)
    clock, found = _settle(values, unit, order, name, place)
    if clock.kind == "number":
        numbers = np.array([item.number for item in found], dtype=np.float64)
        return clock, numbers * clock.unit + (clock.epoch or 0.0)
    if clock.kind == "time of day":
        return clock, np.array([item.number for item in found], dtype=np.float64)
    days: dict[tuple[int, int, int], float] = {}
    seconds = np.empty(len(found), dtype=np.float64)
    for i, item in enumerate(found):
        assert item.text is not None
        numbers_ = item.text.numbers
        if numbers_ not in days:
            days[numbers_] = midnight(item.text, clock.order)
        seconds[i] = days[numbers_] + item.text.seconds - 3600 * (item.text.zone or 0.0)
    return clock, seconds


def _is_float_array(values: Sequence[object]) -> TypeGuard[DoubleArray]:
    return isinstance(values, np.ndarray) and values.dtype.kind in "fiu"


def _settle(
    values: Sequence[object], unit: str | None, order: Order, name: str, place: Place
) -> tuple[Clock, list[_Found]]:
    if unit is not None and unit not in UNITS:
        raise InputError(f"`time_unit` must be {', '.join(UNITS)}; got {unit}.")
    comma = _comma(values, name)
    found: list[_Found] = []
    for i, value in enumerate(values):
        item = _read(value, comma)
        if item is None:
            raise InputError(f"{place(i)}: {name} must be a time; got {shown(value)}.{_hint(value)}")
        if found and (item.kind != found[0].kind or item.is_local != found[0].is_local):
            raise InputError(
                f"{place(i)}: {name} must be of one form, as {shown(values[0])} before it; "
                f"got {shown(value)}."
            )
        found.append(item)
    if not found:
        raise InputError(f"{name} must hold times; there is none.")
    if found[0].kind == "number":
        numbers = np.array([item.number for item in found], dtype=np.float64)
        if found[0].unit is not None:
            return Clock("number", comma=comma, has_unit=True), found
        return _number_clock(numbers, unit, name, comma, place), found
    _check_fractions(values, name, place)
    texts = [item.text for item in found if item.text is not None]
    clock = Clock(found[0].kind, is_local=found[0].is_local, zone=_zone_of(texts))
    if any(not text.order for text in texts):
        clock = replace(clock, order=order or infer_order(texts, values, name, place))
        for i, text in enumerate(texts):
            if not is_day(ordered(text, clock.order)):
                raise InputError(f"{place(i)}: {name} must be a date; got {shown(values[i])}.")
    return clock, found


def _zone_of(texts: Sequence[DateText]) -> str:
    zones = {text.zone for text in texts}
    if len(zones) != 1:
        return "several" if zones else ""
    hours = zones.pop()
    if hours is None:
        return LOCAL
    minutes = round(60 * abs(hours))
    return f"{'-' if hours < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def _read(value: object, comma: str = "") -> _Found | None:
    """What one value is; None where it is no time."""
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return _read_text(clean(value), comma)
    if isinstance(value, np.datetime64):
        stamp = float(value.astype("datetime64[ns]").astype(np.int64)) * 1e-9
        return _Found("date", text=_epoch_text(stamp, None), is_local=True)
    if isinstance(value, (np.timedelta64, timedelta)):
        span = np.timedelta64(value).astype("timedelta64[ns]").astype(np.int64)
        return _Found("number", float(span) * 1e-9, unit=1.0)
    # After the time types of numpy, whose durations count as integers there.
    if isinstance(value, (int, float, np.integer, np.floating)):
        return _Found("number", float(value)) if math.isfinite(value) else None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        zone = aware.utcoffset()
        hours = None if value.tzinfo is None or zone is None else 0.0
        return _Found("date", text=_epoch_text(aware.timestamp(), hours), is_local=value.tzinfo is None)
    if isinstance(value, date):
        text = DateText((value.year, value.month, value.day), "ymd", "-", 0.0, None)
        return _Found("date", text=text, is_local=True)
    if isinstance(value, time_of_day):
        return _read_text(value.isoformat(), "")
    try:
        # Decimal and its like.
        return _Found("number", float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _read_text(text: str, comma: str) -> _Found | None:
    number = without_commas(text, comma)
    if is_plain(number):
        # Digits of a compact date are a number too: fourteen of them are a date.
        if len(text) != 14 or (dated := read_date(text)) is None:
            return _Found("number", to_plain(number))
        return _Found("date", text=dated, is_local=dated.zone is None)
    dated = read_date(text)
    if dated is not None:
        if dated.order and not is_day(dated.numbers):
            return None
        return _Found("date", text=dated, is_local=dated.zone is None)
    of_day = read_time_of_day(text)
    return None if of_day is None else _Found("time of day", of_day[0], is_local=of_day[1] is None)


def _epoch_text(seconds: float, zone: float | None) -> DateText:
    """A time that is known already; the date stays in `seconds`."""
    return DateText((_EPOCH_YEAR, 1, 1), "ymd", "-", seconds, zone)


def _are_compact_dates(first: object) -> bool:
    """20240130130000: fourteen digits that are a date."""
    return isinstance(first, str) and len(first.strip()) == 14 and read_date(first.strip()) is not None


def _number_clock(numbers: DoubleArray, unit: str | None, name: str, comma: str, place: Place) -> Clock:
    check_one_unit(numbers, name, place)
    scale = scale_of(numbers, unit, name)
    return Clock("number", scale.unit, comma=comma, epoch=scale.epoch, has_unit=scale.is_known)


def _check_fractions(values: Sequence[object], name: str, place: Place) -> None:
    """Milliseconds without their zeros: 1.10 after 1.9 is .010 there, and not a tenth.

    A program that leaves zeros out at the end never writes 1.10; one that writes groups of three digits does.

    Raises:
        InputError: fractions of several lengths, of which a shorter one ends in 0.
    """
    found = [_FRACTION.search(value) if isinstance(value, str) else None for value in values]
    digits = ["" if match is None else match[1] for match in found]
    longest = max(map(len, digits), default=0)
    for i, text in enumerate(digits):
        if text.endswith("0") and 1 < len(text) < longest and len(text) % 3:
            raise InputError(
                f"{place(i)}: {name} must have {longest} digits after the seconds, as others have; "
                f"got {shown(values[i])}. Fill it with zeros from the left if it counts milliseconds."
            )


def _comma(values: Sequence[object], name: str) -> str:
    """What commas in numbers are: even steps tell where the text alone does not."""
    cells = [value.strip() for value in values if isinstance(value, str)]
    if not any("," in cell for cell in cells) or not all(is_plain(c.replace(",", "")) for c in cells):
        return ""
    meaning = comma_is(cells)
    if meaning != "unclear":
        return meaning
    rises = []
    for choice in ("thousands", "decimal"):
        numbers = np.array([float(without_commas(cell, choice)) for cell in cells])
        steps = np.diff(numbers)
        middle = float(np.median(steps)) if len(steps) else 0.0
        if middle > 0 and bool((np.abs(steps - middle) <= 0.25 * middle).mean() > 0.9):
            rises.append(choice)
    if len(rises) == 1:
        return rises[0]
    sample = next(cell for cell in cells if "," in cell)
    raise InputError(
        f"{name} must be plain numbers; {sample!r} may be a thousand or a decimal. Write a decimal point."
    )


def _hint(value: object) -> str:
    if is_missing(value):
        return " A row without a time has no place: fill it in or leave the row out."
    return " Write it as 2024-01-31 13:00:00.25, or as a number."
