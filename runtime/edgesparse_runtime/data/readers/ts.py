"""sktime/aeon .ts files: channels of a series separated by colons, its label last.

Read here and not by those packages: they lower-case all text, labels included, and leave stamps unsorted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.clock import Clock, read_times
from edgesparse_runtime.data.model_inputs import without_padding
from edgesparse_runtime.data.readers.arrays import series_of
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.readers.text import read_lines, to_floats
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


@dataclass
class _Header:
    """What the lines before @data state."""

    has_label: bool = False
    classes: tuple[str, ...] = ()
    has_times: bool = False
    dimensions: int | None = None
    lines: dict[str, int] = field(default_factory=dict)


def read_ts(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a .ts file; series may differ in length, channels of one series may not."""
    lines = read_lines(path, options.encoding)
    start = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise InputError(f"{path} must be a .ts file; it has no @data line.")
    header = _read_header(lines[:start])
    series: list[FloatArray] = []
    stamps: list[list[str]] = []
    labels: list[str] = []
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if not line.strip() or line.startswith("#"):
            continue
        channels = _split_channels(line.strip())
        if header.has_label:
            labels.append(_label(channels.pop().strip(), header, path, number) if len(channels) > 1 else "")
            if not labels[-1]:
                raise InputError(f"{path}, row {number} must end in a label after a colon.")
        if len(channels) != (header.dimensions or len(channels)) or (
            series and len(channels) != len(series[0])
        ):
            expected = header.dimensions or len(series[0])
            raise InputError(f"{path}, row {number} must have {expected} channel(s); got {len(channels)}.")
        values, times = _read_channels(channels, header, path, number)
        series.append(values if header.has_times else without_padding(values))
        stamps.append(times)
    if not series:
        raise InputError(f"{path} must hold at least one series; there is none.")
    return series_of(
        series,
        path=path,
        channels=generic_names(len(series[0])),
        options=options,
        labels=labels if header.has_label else None,
        times=_read_stamps(stamps, path) if header.has_times else None,
    )


def _read_header(lines: Sequence[str]) -> _Header:
    header = _Header()
    for line in lines:
        words = line.split()
        key = words[0].lower() if words else ""
        value = words[1].lower() if len(words) > 1 else ""
        if key in ("@classlabel", "@targetlabel"):
            header.has_label, header.classes = value == "true", tuple(words[2:])
        elif key == "@timestamps":
            header.has_times = value == "true"
        elif key in ("@dimensions", "@dimension") and value.isdigit():
            header.dimensions = int(value)
        elif key == "@univariate" and value == "true":
            header.dimensions = 1
    return header


def _label(text: str, header: _Header, path: Path, number: int) -> str:
    """The class as the header spells it; there, case tells classes apart."""
    if not header.classes or text in header.classes:
        return text
    same = [name for name in header.classes if name.lower() == text.lower()]
    if len(same) == 1:
        return same[0]
    if any(_is_number(name) and _is_number(text) and float(name) == float(text) for name in header.classes):
        return text
    raise InputError(
        f"{path}, row {number}: the label must be one of {', '.join(header.classes[:8])}; got {text!r}."
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text) is not None


def _read_channels(
    channels: Sequence[str], header: _Header, path: Path, number: int
) -> tuple[FloatArray, list[str]]:
    """Values [channels, steps], and the time stamps where the file has some."""
    rows: list[DoubleArray] = []
    times: list[str] = []
    for i, text in enumerate(channels):
        cells = [cell.strip() for cell in text.split(",")]
        if header.has_times:
            pairs = _pairs(text, path, number, i)
            own, cells = [time for time, _ in pairs], [value for _, value in pairs]
            if times and own != times:
                raise InputError(f"{path}, row {number}: all channels must have the same time stamps.")
            times = own
        rows.append(to_floats(cells, path, partial(_value, number, i)))
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"{path}, row {number}: channels of one series must have one length.")
    return np.stack(rows).astype(np.float32), times


def _value(row: int, channel: int, value: int) -> str:
    return f"row {row}, channel {channel + 1}, value {value + 1}"


def _split_channels(line: str) -> list[str]:
    """Parts between colons; colons inside brackets belong to a time of day. In linear time, for any line."""
    channels: list[str] = []
    at = start = 0
    colon = line.find(":")
    while colon >= 0:
        bracket = line.find("(", at, colon)
        if bracket < 0:
            channels.append(line[start:colon])
            at = start = colon + 1
        else:
            close = line.find(")", bracket)
            at = close + 1 if close >= 0 else len(line)
        if colon < at:
            colon = line.find(":", at)
    channels.append(line[start:])
    return [channel for channel in channels if channel]


def _pairs(text: str, path: Path, number: int, channel: int) -> list[tuple[str, str]]:
    """Pairs (time, value) with commas between; a time may hold commas. In linear time, for any text."""
    found: list[tuple[str, str]] = []
    end, at = len(text.rstrip()), 0
    while at < end:
        close = text.find(")", at)
        inner = text[at:close].strip() if close >= 0 else ""
        time, comma, value = inner[1:].rpartition(",")
        after = close + 1
        while after < end and text[after].isspace():
            after += 1
        is_pair = inner.startswith("(") and bool(comma) and "(" not in time and "(" not in value
        if not is_pair or (after < end and text[after] != ","):
            raise InputError(
                f"{path}, row {number}, channel {channel + 1} must be pairs (time, value); "
                f"got {text[at : at + 30]!r}."
            )
        found.append((time.strip(), value.strip()))
        at = after + 1
    return found


def _read_stamps(stamps: Sequence[Sequence[str]], path: Path) -> tuple[Clock, list[DoubleArray]]:
    """One clock for the whole file."""
    owner = [(i, k) for i, own in enumerate(stamps) for k in range(len(own))]
    try:
        clock, seconds = read_times(
            [stamps[i][k] for i, k in owner],
            name="time",
            place=lambda n: f"series {owner[n][0] + 1}, value {owner[n][1] + 1}",
        )
    except InputError as error:
        raise InputError(f"{path}, {error}") from None
    return clock, np.split(seconds, np.cumsum([len(own) for own in stamps])[:-1])
