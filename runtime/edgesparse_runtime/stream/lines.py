"""Lines of text to samples: CSV with or without a header, or one JSON object per line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

from edgesparse_runtime.data.column_names import clean_name, without_marks
from edgesparse_runtime.data.plain_number import comma_is, is_number_with_marks, without_commas
from edgesparse_runtime.data.readers.text import MISSING
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.counts import Counts
from edgesparse_runtime.stream.parse import SampleParser
from edgesparse_runtime.stream.sample import Sample

# A longer line is no reading of 64 channels; it would only fill the memory.
LONGEST_LINE = 1 << 20
# A header is kept for as long as its source sends.
MOST_COLUMNS = 4096
# Records after which a channel that none of them had is missed.
WATCHED_RECORDS = 32
# Sources whose first malformed line is shown.
MOST_WARNINGS = 20


class LineParser:
    """Samples of the lines of one source; the first line determines the form.

    A first line that starts with `{` means JSON lines. Otherwise it is CSV: its delimiter is whichever
    of , ; and tab is most frequent in the first line; a first line of numbers alone means that there is no
    header, and that the columns are the channels, after the time stamp where there is one more. A header may
    come again (a file that was replaced, a message with its own); one in another order is followed.

    Args:
        parser: makes the samples.
        counts: where lines that cannot be read are counted.
        warn: told of the first such line of a source.
        topic: the broker's topic that the lines come on. A header or first line that does not fit is then a
            line that cannot be read, not the end: other topics continue.
    """

    def __init__(
        self,
        parser: SampleParser,
        counts: Counts,
        warn: Callable[[str], None],
        *,
        topic: str = "",
    ) -> None:
        self._parser = parser
        self._counts = counts
        self._warn = warn
        self._topic = topic
        # JSON: how many records came, what channels and other keys they had; None = watched long enough.
        self._records = 0
        self._unseen: set[str] | None = set(parser.channels)
        self._unknown: set[str] = set()
        self._read: Callable[[str, float], Sample] | None = None
        self._header: list[str] = []
        self._delimiter = ","
        # What commas in numbers are, as far as the lines have shown.
        self._comma = ""
        self._has_lost = False
        self._columns: tuple[int | None, int | None, list[int]] = (None, None, [])

    def to_sample(self, line: str, arrived: float) -> Sample | None:
        """The sample of a line; None for a header, an empty line, and one that cannot be read (counted).

        Raises:
            InputError: a header that lacks a channel.
        """
        line = line.strip("\r\n ")
        if not line:
            return None
        if len(line) > LONGEST_LINE:
            self.reject(f"a line must have at most {LONGEST_LINE} characters.")
            return None
        line = without_marks(line)
        try:
            if self._read is None and not self._begin(line):
                return None
            assert self._read is not None
            sample = self._read(line, arrived)
        except _EndOfStream:
            raise
        except (InputError, ValueError, ArithmeticError, csv.Error) as error:
            if not self._is_header(line):
                self.reject(str(error))
            return None
        self._counts.of(self._topic or sample.machine).samples += 1
        if self._parser.lost is not None and not self._has_lost:
            self._has_lost = True
            where = f"{self._topic}: " if self._topic else ""
            self._warn(
                f"{where}a cell is scored as missing: {self._parser.lost} Further ones are only counted."
            )
        return sample

    def finish(self) -> None:
        """The source has ended: a channel that no record had is reported now.

        Raises:
            InputError: as `to_sample`.
        """
        if self._records and self._unseen:
            self._miss(self._unseen)

    def reject(self, reason: str) -> None:
        """Count a line that cannot be read; the first one of each source is shown."""
        self._counts.malformed += 1
        source = self._counts.of(self._topic)
        source.malformed += 1
        if source.malformed == 1 and len(self._counts.sources) <= MOST_WARNINGS:
            where = f"{self._topic}: " if self._topic else ""
            self._warn(f"{where}a line was skipped: {reason} Further ones are only counted.")

    def _begin(self, line: str) -> bool:
        """Determine the form; false when the line was a header and holds no sample."""
        if line.startswith("{"):
            self._read = self._read_json
            return True
        if line.startswith("#") and not self._parser.has_name_among(split_names(line)):
            return False
        if line[:4].lower() == "sep=" and len(line) <= 5:
            return False
        self._delimiter = max(",;\t", key=line.count)
        cells = self._cells(line)
        is_headless = all(_is_value(cell) for cell in cells)
        try:
            self._columns = self._count_columns(cells) if is_headless else self._parser.find_columns(cells)
        except InputError as error:
            raise error if self._topic else _EndOfStream(str(error)) from None
        self._header, self._read = [] if is_headless else cells, self._read_csv
        return is_headless

    def _is_header(self, line: str) -> bool:
        """Whether a line that holds no sample is a header; its columns are followed from here on.

        Raises:
            InputError: it lacks a channel, so that the meaning of later columns is unknown.
        """
        if self._read != self._read_csv:
            return False
        try:
            cells = self._cells(line)
        except (InputError, csv.Error):
            return False
        if any(map(_is_value, cells)) or not self._parser.has_name_among(cells):
            return False
        try:
            self._columns = self._parser.find_columns(cells)
        except InputError as error:
            if not self._topic:
                raise _EndOfStream(str(error)) from None
            # Unknown columns: the next line of this source is a first one again.
            self._read = None
            return False
        self._header = cells
        return True

    def _cells(self, line: str) -> list[str]:
        cells = next(csv.reader([line.removeprefix("#")], delimiter=self._delimiter))
        if len(cells) > MOST_COLUMNS:
            raise InputError(f"A line must have at most {MOST_COLUMNS} cells; got {len(cells)}.")
        return [clean_name(cell) for cell in cells]

    def _count_columns(self, cells: list[str]) -> tuple[int | None, int | None, list[int]]:
        columns, channels = len(cells), len(self._parser.channels)
        if columns not in (channels, channels + 1):
            names = ", ".join(self._parser.channels)
            raise InputError(
                f"A stream without a header must have {channels} column(s) ({names}), or one more: the time; "
                f"got {columns}."
            )
        first = columns - channels
        if first and not cells[-1]:
            raise InputError(
                f"A stream without a header must not start with an empty last cell: it may be the channel "
                f"{self._parser.channels[-1]} or a delimiter at the line's end. Send a header."
            )
        return (0 if first else None), None, list(range(first, columns))

    def _read_json(self, line: str, arrived: float) -> Sample:
        try:
            record = json.loads(line, object_pairs_hook=_once_each)
        except json.JSONDecodeError as error:
            raise InputError(f"A line must be a JSON object; {error.msg} at character {error.pos}.") from None
        except _Twice as error:
            raise InputError(f"A line must have each key once; {str(error)[:40]} is in it twice.") from None
        except (RecursionError, ValueError):
            raise InputError(
                "A line must be a JSON object; it is nested too deeply or a number is too long."
            ) from None
        if not isinstance(record, dict):
            raise InputError("A line must be a JSON object.")
        if self._parser.time_column and not self._records and not self._parser.time_key(record):
            self._miss_time(record)
        if self._unseen is not None:
            self._watch(record)
        return self._parser.to_sample(record, arrived=arrived, topic=self._topic)

    def _watch(self, record: dict[str, Any]) -> None:
        """A channel may be absent from a record, but one that no record has is misspelt or not sent.

        Raises:
            InputError: it is absent while keys come that the model has no channel for.
        """
        assert self._unseen is not None
        self._records += 1
        self._unseen -= record.keys()
        self._unknown |= set(sorted(self._parser.unknown_keys(record))[:MOST_WARNINGS])
        if not self._unseen:
            self._unseen = None
        elif self._records >= WATCHED_RECORDS or self._has_other_case(self._unseen):
            missing, self._unseen = self._unseen, None
            self._miss(missing)

    def _miss_time(self, record: dict[str, Any]) -> None:
        if not self._topic:
            keys = ", ".join(sorted(record))[:200]
            raise _EndOfStream(f"The stream must have a column {self._parser.time_column}; got {keys}.")

    def _has_other_case(self, unseen: set[str]) -> bool:
        lower = {key.lower() for key in self._unknown}
        return any(name.lower() in lower for name in unseen)

    def _miss(self, missing: set[str]) -> None:
        names = ", ".join(name for name in self._parser.channels if name in missing)
        if not self._unknown:
            self._warn(f"{names}: no record has it; it is scored as missing.")
            return
        problem = (
            f"The stream must have the channel(s) {', '.join(self._parser.channels)}; {names} is missing "
            f"from {', '.join(sorted(self._unknown))[:200]}."
        )
        if self._topic:
            self._warn(f"{self._topic}: {problem} It is scored as missing.")
        else:
            raise _EndOfStream(problem)

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
        if self._comma or ("," in line and any("," in value for value in values)):
            values = self._with_points(values)
        name = "" if machine is None else cells[machine].strip()
        if stamp is None:
            return self._parser.to_sample(values, arrived=arrived, machine=name, topic=self._topic)
        record = (cells[stamp], values)
        return self._parser.to_sample(record, arrived=arrived, machine=name, topic=self._topic)

    def _with_points(self, values: list[str]) -> list[str]:
        """Numbers as plain decimals, once a line has shown what their commas are; until then, and where a
        point contradicts it, a cell stays what it is and is lost."""
        found = comma_is([value for value in values if is_number_with_marks(value.strip())])
        if found not in ("", "unclear") and (not self._comma or found.startswith(self._comma)):
            self._comma = found
        meaning = self._comma
        if meaning == "decimal":
            # A point may be one between thousands here.
            return [
                value.replace(".", "?") if "." in value else without_commas(value, meaning)
                for value in values
            ]
        return [without_commas(value, meaning) for value in values]


def split_names(line: str) -> list[str]:
    """The cells of a header that starts with #."""
    names = line.removeprefix("#").split(max(",;\t", key=line.count))
    return [clean_name(name) for name in names]


class _Twice(ValueError):
    """A key that an object has twice."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return record


class _EndOfStream(InputError):
    """A header that does not fit: the stream cannot continue."""


def _is_value(cell: str) -> bool:
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        # A calendar time is no column's name.
        return len(cell) >= 10 and cell[:4].isdigit() and cell[4] in "-0123456789"
    return True
