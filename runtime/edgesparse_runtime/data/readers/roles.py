"""Which column of a table is what: time, series, group, label or channel; docs/guides/data.md, "Roles".

A name alone is not enough where the same name is used for signals (`t`, `step`, `run`, `y`): then what
the column holds decides, and the reason is kept for the user to read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.data.column_names import (
    DATES,
    INDEXES,
    MAYBE_TIMES,
    TIMES,
    USUAL_NAMES,
    plain_name,
)
from edgesparse_runtime.data.plain_number import is_plain, to_plain_array
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.table import Table
from edgesparse_runtime.data.readers.text import is_missing, to_floats
from edgesparse_runtime.data.series_set import Role
from edgesparse_runtime.data.times.date_text import clean, read_date
from edgesparse_runtime.data.times.number_scale import unit_of_name
from edgesparse_runtime.errors import InputError


@dataclass(frozen=True)
class Roles:
    """The columns by role; None = no such column.

    Attributes:
        date: a date column beside a time column that holds times of day only.
        roles: every column with its role and the reason.
    """

    time: str | None
    date: str | None
    series: str | None
    group: str | None
    label: str | None
    channels: tuple[str, ...]
    roles: tuple[Role, ...]


def find_roles(table: Table, options: ReadOptions) -> Roles:
    """The role of every column.

    Raises:
        InputError: a column that is named is not there, or no channel is left.
    """
    found: dict[str, Role] = {}

    def take(column: str | None, role: str, reason: str) -> str | None:
        if column is not None:
            found[column] = Role(column, role, reason)
        return column

    reserved = _model_channels(table, options)
    for name in reserved:
        take(name, "channel", "a channel of the model")
    named = {role: getattr(options, f"{role}_column") for role in USUAL_NAMES}
    if not options.needs_labels and named["label"] not in table.columns:
        # Data to predict, read as those of training were.
        named["label"] = None
    for role, column in named.items():
        if column is not None:
            take(_existing(table, column), role, "named")
    free = [name for name in table.columns if name not in found]
    series = named["series"] or take(*_series(table, free))
    free = [name for name in table.columns if name not in found]
    group = named["group"] or take(*_group(table, free, series))
    free = [name for name in table.columns if name not in found]
    label = named["label"] or take(*_label(table, free, options))
    if label is not None and found[label].role != "label":
        label = None
    free = [name for name in table.columns if name not in found]
    time = named["time"] or take(*_time(table, free, series, group))
    date = None
    if time is not None:
        free = [name for name in table.columns if name not in found]
        date = take(_date_beside(table, free, time), "time", f"the date of {time}")
    channels = _channels(table, options, found, reserved, series)
    return Roles(
        time,
        date,
        series,
        group,
        label,
        channels,
        tuple(found[name] for name in table.columns if name in found),
    )


def _existing(table: Table, wanted: str) -> str:
    if wanted in table.columns:
        return wanted
    raise InputError(no_column(table, wanted))


def no_column(table: Table, wanted: str) -> str:
    """The message for a column that is not there."""
    import difflib

    near = difflib.get_close_matches(wanted, list(table.columns), n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{table.path} must have a column {wanted}; it has {', '.join(table.columns)}.{hint}"


def _model_channels(table: Table, options: ReadOptions) -> tuple[str, ...]:
    """The model's own channels, where the file has all of them."""
    if options.channels is not None:
        return ()
    wanted = options.model_channels
    named = {getattr(options, f"{role}_column") for role in USUAL_NAMES}
    return wanted if wanted and set(wanted) <= set(table.columns) and not named & set(wanted) else ()


def _candidate(table: Table, free: Sequence[str], names: Sequence[str]) -> list[str]:
    """Free columns of these names, in the order of the names."""
    by_name: dict[str, str] = {}
    for column in free:
        by_name.setdefault(plain_name(column), column)
    return [by_name[name] for name in names if name in by_name]


def _series(table: Table, free: Sequence[str]) -> tuple[str | None, str, str]:
    for column in _candidate(table, free, USUAL_NAMES["series"]):
        distinct = len(set(table.columns[column]))
        is_sure = plain_name(column).startswith("series")
        if distinct == len(table) > 1 and not is_sure and _rises(table, column):
            # One value per row: a row number, not a series.
            continue
        return column, "series", "by its name"
    return None, "", ""


def _group(table: Table, free: Sequence[str], series: str | None) -> tuple[str | None, str, str]:
    for column in _candidate(table, free, USUAL_NAMES["group"]):
        cells = table.columns[column]
        if _is_flag(cells, None if series is None else table.columns[series]):
            continue
        return column, "group", "by its name"
    return None, "", ""


def _is_flag(cells: Sequence[Any], series: Sequence[Any] | None) -> bool:
    """A column that switches to and fro inside a recording, as a motor's `run` does; a group stays, or every
    one of its values comes in turn."""
    keys = list(cells) if series is None else list(zip(series, cells, strict=True))
    blocks = [key for i, key in enumerate(keys) if not i or key != keys[i - 1]]
    if len(blocks) == len(set(blocks)):
        return not _has_names(cells) and series is None and _looks_binary(cells) and len(set(cells)) == 2
    return not _has_names(cells) and len(set(map(str, cells))) <= 3


def _looks_binary(cells: Sequence[Any]) -> bool:
    return {str(cell).strip().lower().removesuffix(".0") for cell in cells} <= {"0", "1", "true", "false"}


def _has_names(cells: Sequence[Any]) -> bool:
    """Whether a value is text that is no number and no truth value."""
    distinct = [str(cell) for cell in set(cells) if not is_missing(cell)]
    return to_plain_array(distinct) is None and not _looks_binary(distinct)


def _label(table: Table, free: Sequence[str], options: ReadOptions) -> tuple[str | None, str, str]:
    names = USUAL_NAMES["label"]
    if not options.needs_labels or options.task == "forecasting":
        # Names of classes are no signal, whatever they are called; numbers may be one.
        for column in _candidate(table, free, names):
            if _has_names(table.columns[column]):
                return column, "left out", "labels are not needed"
        for column in _candidate(table, free, names[:3] if not options.needs_labels else ("label", "class")):
            return column, "left out", "labels are not needed"
        return None, "", ""
    axes = {plain_name(column) for column in table.columns}
    for column in _candidate(table, free, names):
        # x, y, z are the axes of a sensor.
        if plain_name(column) == "y" and axes & {"x", "z"}:
            continue
        return column, "label", "by its name"
    return None, "", ""


def _time(
    table: Table, free: Sequence[str], series: str | None, group: str | None
) -> tuple[str | None, str, str]:
    for column in _candidate(table, free, TIMES):
        return column, "time", "by its name"
    for column in free:
        words = re.split(r"[\s_\-]+", plain_name(column))
        is_named = bool({words[0], words[-1]} & {"time", "timestamp"})
        if is_named and (unit_of_name(column) or not _is_number(table, column) or _rises(table, column)):
            return column, "time", "by its name"
    keys = [table.columns[name] for name in (series, group) if name is not None]
    for column in free:
        # T is a temperature, t a time.
        name = column.strip() if len(column.strip()) == 1 else plain_name(column)
        if name in MAYBE_TIMES and _rises(table, column, keys):
            return column, "time", "it rises evenly"
    for column in free:
        if _holds_dates(table.columns[column]):
            return column, "time", "it holds dates"
    return None, "", ""


def _holds_dates(cells: Sequence[Any]) -> bool:
    """Text that is a calendar date, in the first cells that are not missing."""
    first = [cell for cell in cells[:50] if not is_missing(cell)][:5]
    return bool(first) and all(
        isinstance(cell, str) and not is_plain(cell) and read_date(clean(cell)) is not None for cell in first
    )


def _is_number(table: Table, column: str) -> bool:
    return to_plain_array([str(cell) for cell in table.columns[column]]) is not None


def _rises(table: Table, column: str, keys: Sequence[Sequence[Any]] = ()) -> bool:
    """Whether a numeric column goes up by one and the same step, from row to row of each series, in any order
    of the rows."""
    try:
        values = to_floats(table.columns[column], table.path, table.place)
    except InputError:
        return False
    if np.isnan(values).any() or len(values) < 2:
        return False
    groups: dict[Any, list[float]] = {}
    for i, value in enumerate(values.tolist()):
        groups.setdefault(tuple(key[i] for key in keys), []).append(value)
    steps = np.concatenate([np.diff(np.sort(group)) for group in groups.values()])
    if not len(steps):
        return False
    middle = float(np.median(steps))
    return middle > 0 and bool((np.abs(steps - middle) <= 0.25 * middle).mean() >= 0.9)


def _date_beside(table: Table, free: Sequence[str], time: str) -> str | None:
    """The date column of a time column that holds times of day: two cells make one time."""
    first = next((str(c) for c in table.columns[time] if not is_missing(c)), "")
    if ":" not in first or re.match(r"\s*[0-9]{1,2}:[0-9]{2}", first) is None:
        return None
    return next(iter(_candidate(table, free, DATES)), None)


def _channels(
    table: Table,
    options: ReadOptions,
    found: dict[str, Role],
    reserved: tuple[str, ...],
    series: str | None,
) -> tuple[str, ...]:
    if options.channels is not None:
        for name in options.channels:
            found[_existing(table, name)] = Role(name, "channel", "named")
        return options.channels
    keys = [table.columns[series]] if series is not None else []
    left = []
    for name in table.columns:
        if name in found:
            continue
        if reserved:
            found[name] = Role(name, "left out", "no channel of the model")
        elif plain_name(name) in INDEXES and _counts(table, name, keys):
            found[name] = Role(name, "left out", "it counts rows")
        elif all(is_missing(cell) for cell in table.columns[name]) and plain_name(name).startswith("unnamed"):
            found[name] = Role(name, "left out", "it is empty")
        else:
            found[name] = Role(name, "channel", "no other role")
            left.append(name)
    if reserved:
        return reserved
    if not left:
        raise InputError(f"{table.path} must have a channel column besides {', '.join(table.columns)}.")
    return tuple(left)


def _counts(table: Table, column: str, keys: Sequence[Sequence[Any]]) -> bool:
    """Whether it is 0, 1, 2, ... or 1, 2, 3, ... over the file or over each series."""
    values = to_plain_array([str(cell) for cell in table.columns[column]])
    if values is None or np.isnan(values).any() or not (values == np.round(values)).all():
        return False
    steps = np.diff(np.sort(values))
    if len(values) > 1 and bool((steps == 1).all()):
        return True
    return bool(keys) and _rises(table, column, keys) and bool(values.min() in (0, 1))
