"""Sizes that the pages of a Parquet file state, added up without unpacking one.

The footer states sizes too, and pyarrow holds neither against the other: a page takes what its own header
states. The headers are structures in Thrift's compact form.
"""

from __future__ import annotations

from typing import Any, BinaryIO

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)
_DEEPEST = 8
# Fields of a page's header.
_UNPACKED, _PACKED = 2, 3


def unpacked_size(file: BinaryIO, metadata: Any) -> int:
    """Bytes of all pages of all columns, unpacked.

    Args:
        metadata: pyarrow's, of this file.

    Raises:
        ValueError, IndexError, OSError: headers that are damaged.
    """
    total = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(metadata.num_columns)):
            starts = [column.data_page_offset]
            if column.has_dictionary_page:
                starts.append(column.dictionary_page_offset)
            start, end = min(starts), min(starts) + column.total_compressed_size
            total += _chunk_size(file, start, end)
    return total


def _chunk_size(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    content = file.read(max(0, end - start))
    total = at = 0
    while at < len(content):
        at, sizes = _page_header(content, at)
        unpacked, packed = sizes[_UNPACKED], sizes[_PACKED]
        if unpacked < 0 or packed < 0:
            raise ValueError
        total += unpacked
        at += packed
    return total


def _page_header(content: bytes, at: int) -> tuple[int, dict[int, int]]:
    """Where the header ends, and its integers by field."""
    numbers = {_UNPACKED: -1, _PACKED: -1}
    field = 0
    while content[at] != _STOP:
        at, field, kind = _field(content, at, field)
        if kind in _INTEGERS:
            at, number = _varint(content, at)
            numbers[field] = (number >> 1) ^ -(number & 1)
        else:
            at = _skip(content, at, kind, _DEEPEST)
    return at + 1, numbers


def _field(content: bytes, at: int, before: int) -> tuple[int, int, int]:
    """Where a field's value starts, its number and its kind."""
    step, kind = content[at] >> 4, content[at] & 15
    if step:
        return at + 1, before + step, kind
    at, number = _varint(content, at + 1)
    return at, (number >> 1) ^ -(number & 1), kind


def _skip(content: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value ends."""
    if depth == 0:
        raise ValueError
    if kind in (_TRUE, _FALSE):
        return at
    if kind in _INTEGERS:
        return _varint(content, at)[0]
    if kind == _BINARY:
        at, length = _varint(content, at)
        return at + length
    if kind in (_BYTE, _DOUBLE):
        return at + (1 if kind == _BYTE else 8)
    if kind == _STRUCT:
        field = 0
        while content[at] != _STOP:
            at, field, inner = _field(content, at, field)
            at = _skip(content, at, inner, depth - 1)
        return at + 1
    if kind in (_LIST, _SET):
        count, inner = content[at] >> 4, content[at] & 15
        at += 1
        if count == 15:
            at, count = _varint(content, at)
        for _ in range(min(count, len(content))):
            # A truth in a list takes a byte.
            at = at + 1 if inner in (_TRUE, _FALSE) else _skip(content, at, inner, depth - 1)
        return at
    raise ValueError


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return at, number
        if shift > 63:
            raise ValueError
