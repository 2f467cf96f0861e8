"""Lines of text to samples: CSV with or without a header, or one JSON object a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

from edgesparse_runtime.data.readers.text import MISSING
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.parse import SampleParser
from edgesparse_runtime.stream.sample import Sample

# A line longer than this is no reading of 64 channels; it would only fill the memory.
LONGEST_LINE = 1 << 20


class LineParser:
    """Samples of the lines of one source; the first line says which form it is.

    A first line that starts with `{` means JSON lines. Otherwise it is CSV: its delimiter is the one of , ;
    and tab that the first line holds most of; a first line of numbers alone means that there is no header,
    and that the columns are the channels, after the time stamp where there is one more. A header may come
    again (a file that was replaced, a message that brings its own); one in another order is followed.

    Args:
        parser: makes the samples.
        counts: where lines that cannot be read are counted.
        warn: is told of the first such line.
        is_one_of_many: a header or first line that does not fit is a line that cannot be read, not the end:
            other sources of the stream go on.
    """

    def __init__(
        self,
        parser: SampleParser,
        counts: Counts,
        warn: Callable[[str], None],
        *,
        is_one_of_many: bool = False,
    ) -> None:
        self._parser = parser
        self._counts = counts
        self._warn = warn
        self._is_one_of_many = is_one_of_many
        self._read: Callable[[str, float], Sample] | None = None
        self._header: list[str] = []
        self._delimiter = ","
        self._columns: tuple[int | None, int | None, list[int]] = (None, None, [])

    def to_sample(self, line: str, arrived: float) -> Sample | None:
        """The sample of a line; None for a header, an empty line, and one that cannot be read (counted).

        Raises:
            InputError: a header that lacks a channel.
        """
        line = line.strip("\r\n ")
        if not line or len(line) > LONGEST_LINE:
            self._counts.malformed += bool(line)
            return None
        line = line.lstrip("\ufeff")
        try:
            if self._read is None and not self._begin(line):
                return None
            assert self._read is not None
            return self._read(line, arrived)
        except _EndOfStream:
            raise
        except (InputError, ValueError, csv.Error) as error:
            if self._is_header(line):
                return None
            self._counts.malformed += 1
            if self._counts.malformed == 1:
                self._warn(f"a line was left out: {error} Further ones are counted only.")
            return None

    def _begin(self, line: str) -> bool:
        """Find out the form; false when the line was a header and holds no sample."""
        if line.startswith("{"):
            self._read = self._read_json
            return True
        self._delimiter = max(",;\t", key=line.count)
        cells = self._cells(line)
        is_headless = all(_is_value(cell) for cell in cells)
        try:
            self._columns = (
                self._count_columns(len(cells)) if is_headless else self._parser.find_columns(cells)
            )
        except InputError as error:
            raise error if self._is_one_of_many else _EndOfStream(str(error)) from None
        self._header, self._read = [] if is_headless else cells, self._read_csv
        return is_headless

    def _is_header(self, line: str) -> bool:
        """Whether a line that holds no sample is a header; its columns are followed from here on.

        Raises:
            InputError: it lacks a channel, so that nobody knows what the columns after it are.
        """
        if self._read != self._read_csv:
            return False
        try:
            cells = self._cells(line)
        except csv.Error:
            return False
        if any(map(_is_value, cells)) or not self._parser.has_name_among(cells):
            return False
        try:
            self._columns = self._parser.find_columns(cells)
        except InputError as error:
            if not self._is_one_of_many:
                raise _EndOfStream(str(error)) from None
            # Columns nobody knows: the next line of this source is a first one again.
            self._read = None
            return False
        self._header = cells
        return True

    def _cells(self, line: str) -> list[str]:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=self._delimiter))]

    def _count_columns(self, columns: int) -> tuple[int | None, int | None, list[int]]:
        channels = len(self._parser.channels)
        if columns not in (channels, channels + 1):
            names = ", ".join(self._parser.channels)
            raise InputError(
                f"A stream without a header must have {channels} column(s) ({names}), or one more: the time; "
                f"got {columns}."
            )
        first = columns - channels
        return (0 if first else None), None, list(range(first, columns))

    def _read_json(self, line: str, arrived: float) -> Sample:
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"A line must be a JSON object; {error.msg} at character {error.pos}.") from None
        except (RecursionError, ValueError):
            raise InputError(
                "A line must be a JSON object; it is nested too deeply or a number is too long."
            ) from None
        if not isinstance(record, dict):
            raise InputError("A line must be a JSON object.")
        return self._parser.to_sample(record, arrived=arrived)

    def _read_csv(self, line: str, arrived: float) -> Sample:
        # A plain split is ten times as fast as the csv module, and right wherever nothing is quoted.
        if '"' in line:
            cells = next(csv.reader([line], delimiter=self._delimiter))
        else:
            cells = line.split(self._delimiter)
        stamp, machine, places = self._columns
        wanted = len(self._header) or len(places) + (stamp is not None)
        if len(cells) != wanted:
            raise InputError(f"A line must have {wanted} cells; got {len(cells)}.")
        values = [cells[i] for i in places]
        name = "" if machine is None else cells[machine].strip()
        if stamp is None:
            return self._parser.to_sample(values, arrived=arrived, machine=name)
        return self._parser.to_sample((cells[stamp], values), arrived=arrived, machine=name)


class _EndOfStream(InputError):
    """A header that does not fit: the stream cannot go on."""


def _is_value(cell: str) -> bool:
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        # A calendar time is no column's name.
        return len(cell) >= 10 and cell[:4].isdigit() and cell[4] in "-0123456789"
    return True
