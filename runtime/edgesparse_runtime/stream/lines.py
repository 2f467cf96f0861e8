"""Lines of text to samples: CSV with or without a header, or one JSON object a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.readers.text import MISSING
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.parse import SampleParser
from edgesparse_runtime.stream.sample import Sample

# A line longer than this is no reading of 64 channels; it would only fill the memory.
LONGEST_LINE = 1 << 20


class LineParser:
    """Samples of the lines of one source; the first line says which form it is.

    A first line that starts with `{` means JSON lines. Otherwise it is CSV: its delimiter is the one of , ;
    and tab that the first line holds most of; a first line of numbers alone means that there is no header,
    and that the columns are the channels, after the time stamp where there is one more.

    Args:
        parser: makes the samples.
        counts: where lines that cannot be read are counted.
        warn: is told of the first such line.
    """

    def __init__(self, parser: SampleParser, counts: Counts, warn: Callable[[str], None]) -> None:
        self._parser = parser
        self._counts = counts
        self._warn = warn
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
        if self._read is None and not self._begin(line.lstrip("\ufeff")):
            return None
        assert self._read is not None
        try:
            return self._read(line, arrived)
        except (InputError, ValueError, RecursionError, csv.Error) as error:
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
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=self._delimiter))]
        if all(_is_value(cell) for cell in cells):
            self._columns = self._count_columns(len(cells))
            self._read = self._read_csv
            return True
        self._columns = self._parser.find_columns(cells)
        self._header, self._read = cells, self._read_csv
        return False

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
        record = json.loads(line)
        if not isinstance(record, dict):
            raise InputError("A line must be a JSON object.")
        return self._parser.to_sample(record, arrived=arrived)

    def _read_csv(self, line: str, arrived: float) -> Sample:
        # A plain split is ten times as fast as the csv module, and right wherever nothing is quoted.
        if '"' in line:
            cells = next(csv.reader([line], delimiter=self._delimiter))
        else:
            cells = line.split(self._delimiter)
        if self._header and [cell.strip() for cell in cells] == self._header:
            raise InputError("The header stands in the stream again.")
        stamp, machine, places = self._columns
        wanted = len(self._header) or len(places) + (stamp is not None)
        if len(cells) != wanted:
            raise InputError(f"A line must have {wanted} cells; got {len(cells)}.")
        values = [cells[i] for i in places]
        name = "" if machine is None else cells[machine].strip()
        if stamp is None:
            return self._parser.to_sample(values, arrived=arrived, machine=name)
        return self._parser.to_sample((cells[stamp], values), arrived=arrived, machine=name)


def _is_value(cell: str) -> bool:
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        # A calendar time is no column's name.
        return len(cell) >= 10 and cell[:4].isdigit() and cell[4] in "-0123456789"
    return True
