"""`Table`: the columns of a CSV or Parquet file, and where each row is in the file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import IndexArray
from edgesparse_runtime.bundle.npz_archive import MOST_EXPANSION, UNPACKED_FREELY
from edgesparse_runtime.data.column_names import clean_name
from edgesparse_runtime.data.plain_number import is_plain
from edgesparse_runtime.data.readers.parquet_pages import unpacked_size
from edgesparse_runtime.data.readers.text import read_encoded
from edgesparse_runtime.errors import InputError, MissingExtraError
from edgesparse_runtime.machine.memory_bounds import free_memory

# A number of a Parquet file as an object in a list, at least.
_CELL_BYTES = 16
# Values of a Parquet file, however small it is, and for each of its bytes.
_CELLS_FREELY = 20_000_000
_CELLS_PER_BYTE = 8

# Excel's first line that names the delimiter, as it is or saved again as a cell of a table.
_SEPARATOR = re.compile(r'"?sep=(?P<delimiter>[^"])"?(?P=delimiter)*\r?', re.IGNORECASE)
_STARTS_A_NUMBER = re.compile(r"\s*[+-]?[.,]?[0-9]")


def as_column(values: npt.NDArray[Any]) -> Sequence[Any]:
    """Numbers in an array, as a column: it has all that a column of cells has."""
    return values  # type: ignore[return-value]


@dataclass(frozen=True)
class TextForm:
    """How a text file writes its table.

    Attributes:
        comma: what commas in its numbers are, see `plain_number.comma_is`; known once they were read.
    """

    encoding: str
    delimiter: str
    comma: str = ""

    def __str__(self) -> str:
        name = {",": "commas", ";": "semicolons", "\t": "tabs"}.get(self.delimiter, repr(self.delimiter))
        decimal = f", {self.comma.split(',')[0]} commas" if self.comma else ""
        return f"{self.encoding}, {name} between cells{decimal}"


@dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes:
        path: of the file.
        columns: text, or what the types of a Parquet file are in Python; None = missing there.
        lines: of each row: its line in a text file, its number in another.
        recordings: number of the recording that each row belongs to, rising; None = columns tell.
        names: of these recordings.
        form: of a text file.
        notes: what a reader of the results should know.
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]
    recordings: IndexArray | None = None
    names: Sequence[str] = ()
    form: TextForm | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """Where a row stands."""
        return f"row {self.lines[row]}"


def read_csv_table(path: Path, encoding: str | None = None) -> Table:
    """Read a CSV file; the delimiter is the one of , ; and tab that the header holds most of.

    A first line `sep=;` names the delimiter, as Excel writes it; lines before the header that start with #
    are comments.
    """
    text, found = read_encoded(path, encoding)
    start_of_header, before, delimiter = _before_header(text)
    text = text[start_of_header:]
    first = text.partition("\n")[0].rstrip("\r")
    if not first.strip():
        raise InputError(f"{path} must start with a header row; the first row is empty.")
    delimiter = delimiter or max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for row in reader:
            line_number, start = before + start, reader.line_num + 1
            if not row or (len(row) == 1 and not row[0].strip() and len(header) != 1):
                continue
            if not header:
                header = [clean_name(name) for name in row]
                if header[0].startswith("#"):
                    header[0] = header[0].lstrip("# ") or "#"
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path}, row {line_number} must have {len(header)} cells; got {len(row)}."
                    f"{_cells_hint(header, row)}"
                )
            rows.append(row)
            lines.append(line_number)
    except csv.Error as error:
        raise InputError(f"{path}, row {before + start}: the row must be CSV; {error}.") from None
    if rows and not header[0] and _counts_rows([row[0] for row in rows]):
        # pandas writes its index without a name.
        header[0] = "Unnamed: 0"
    if rows and not header[-1] and not any(row[-1].strip() for row in rows):
        # A delimiter at the end of every line.
        header, rows = header[:-1], [row[:-1] for row in rows]
    _check_header(path, header)
    if not rows:
        raise InputError(f"{path} must hold data; there is a header and nothing else.")
    if all(map(is_plain, header)):
        raise InputError(
            f"{path} must start with a header row that names the columns; the first row is numbers."
        )
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return Table(path, columns, lines, form=TextForm(found, delimiter))


def read_parquet_table(path: Path) -> Table:
    """Read a Parquet file, with pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Reading a Parquet file", "pyarrow", "data") from None
    try:
        with parquet.ParquetFile(path) as file:
            kinds, metadata = file.schema_arrow, file.metadata
        _check_parquet(path, kinds, metadata)
        # Text that stands in a million rows stays one text.
        texts = [field.name for field in kinds if _is_text(field.type)]
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read()
    except (pyarrow.ArrowException, OSError, ValueError, IndexError):
        raise InputError(f"{path} must be a Parquet file; it is damaged or something else.") from None
    names = [clean_name(name) for name in table.column_names]
    _check_header(path, names)
    if not table.num_rows:
        raise InputError(f"{path} must hold data; there are no rows.")
    columns = {name: _to_python(path, name, table.column(i)) for i, name in enumerate(names)}
    return Table(path, columns, range(1, table.num_rows + 1))


def _to_python(path: Path, name: str, column: Any) -> list[Any]:
    """Values of a column: numbers, text, and times that keep their nanoseconds and zone."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        if _is_text(kind.value_type):
            return [cell for part in column.chunks for cell in _shared(path, name, part)]
        column, kind = column.cast(kind.value_type), kind.value_type
    if pyarrow.types.is_timestamp(kind):
        zone = "Z" if kind.tz is not None else ""
        stamps = column.cast(pyarrow.timestamp(kind.unit)).to_numpy()
        return [None if np.isnat(x) else str(x) + zone for x in stamps]
    if pyarrow.types.is_duration(kind):
        return [None if np.isnat(x) else x for x in column.to_numpy()]
    values = column.to_pylist()
    return [_one_value(path, name, value) for value in values]


def _one_value(path: Path, name: str, value: Any) -> Any:
    return decode(value, path, name) if isinstance(value, bytes) else value


def _is_text(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_kind(kind) for is_kind in kinds)


def _shared(path: Path, name: str, part: Any) -> list[Any]:
    """Values of a dictionary array; equal ones are one object."""
    values = [*(_one_value(path, name, value) for value in part.dictionary.to_pylist()), None]
    return [values[-1 if index is None else index] for index in part.indices.to_pylist()]


def _check_parquet(path: Path, kinds: Any, metadata: Any) -> None:
    """What a file states, before any page is unpacked."""
    from pyarrow import types

    size = path.stat().st_size
    for field in kinds:
        # One row could hold any number of values.
        if types.is_nested(field.type):
            raise InputError(f"{path}: column {field.name} must hold one value per row; it holds lists.")
    rows = max(metadata.num_rows, sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))
    cells, most = rows * len(kinds), max(_CELLS_FREELY, _CELLS_PER_BYTE * size)
    if cells > most:
        raise InputError(
            f"{path} must hold at most {most} values for its size; got {rows} rows of {len(kinds)} columns. "
            "Split it."
        )
    check_free_memory(path, f"{rows} rows of {len(kinds)} columns", cells * _CELL_BYTES)
    with path.open("rb") as stream:
        unpacked = unpacked_size(stream, metadata)
    if unpacked > max(UNPACKED_FREELY, MOST_EXPANSION * size):
        raise InputError(
            f"{path} must unpack to at most {UNPACKED_FREELY >> 20} MB or {MOST_EXPANSION} times its own "
            f"size; got {unpacked >> 20} MB. Write it uncompressed."
        )


def check_free_memory(path: Path, what: str, needed: int) -> None:
    """Equal values take next to nothing in a file, and their bytes each in memory."""
    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{path} must fit into memory; its {what} take at least "
            f"{needed / 2**30:.1f} GB, and {free / 2**30:.1f} GB are free. Split it."
        )


def decode(value: bytes, path: Path, name: str) -> str:
    """Bytes as the text that they are.

    Raises:
        InputError: they are not UTF-8.
    """
    try:
        return value.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        raise InputError(f"{path}: {name} must be UTF-8 text; got {value[:20]!r}.") from None


def _before_header(text: str) -> tuple[int, int, str]:
    """Where the header starts, how many lines stand before it, and the delimiter that one of them names."""
    at = before = 0
    delimiter = ""
    while True:
        end = text.find("\n", at)
        line = text[at:] if end < 0 else text[at:end]
        separator = _SEPARATOR.fullmatch(line)
        if separator is not None:
            delimiter = separator["delimiter"]
        elif line.startswith("#"):
            after = text.find("\n", end + 1)
            if _is_header(line, text[end + 1 :] if after < 0 else text[end + 1 : after]):
                break
        elif line.strip() or not before:
            break
        if end < 0:
            break
        at, before = end + 1, before + 1
    return at, before, delimiter


def _is_header(line: str, after: str) -> bool:
    """Whether a line that starts with # names columns, as numpy.savetxt writes it: as many cells as in the
    next line, which holds a number; a comment stands before names."""
    return any(
        line.count(d) == after.count(d) > 0 and any(map(_STARTS_A_NUMBER.match, after.split(d)))
        for d in ",;\t"
    )


def _cells_hint(header: Sequence[str], row: Sequence[str]) -> str:
    """What to do about a row of another width: it is the header, or its commas are decimal."""
    known = [cell.strip() for cell in row if cell.strip()]
    if len(row) > len(header) and known and not any(map(_STARTS_A_NUMBER.match, known)):
        return f" If it is the header, start the lines above it with # ({', '.join(header)[:40]})."
    if len(row) < len(header):
        return " Complete the row or delete it."
    if len(row) > len(header) and all(cell.lstrip("+-").isdigit() for cell in known):
        return " Where commas are decimal, another delimiter (;) must stand between cells."
    return ""


def _counts_rows(cells: Sequence[str]) -> bool:
    return all(cell.isdigit() for cell in cells) and len(set(cells)) > 1


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raises `InputError` where two columns or channels have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path}: column names must differ; {name} stands twice.")
        seen.add(name)


def _check_header(path: Path, header: list[str]) -> None:
    for i, name in enumerate(header):
        if not name:
            raise InputError(f"{path}: column {i + 1} must have a name.")
    check_names(path, header)
