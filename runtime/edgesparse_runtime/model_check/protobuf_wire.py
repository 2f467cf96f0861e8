"""Protobuf's wire format, read and written without protobuf, bounded and checked.

A message is a list of fields: number, wire type, value. Nothing is copied, and nothing is allocated from a
length that the input states. Groups, which ONNX does not have, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_LONGEST_KEY = 5
_MASK = 0xFFFFFFFFFFFFFFFF


class WireError(ValueError):
    """The bytes are no protobuf message, or none of those that ONNX has."""


def fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and value of each field, in order; varints as unsigned 64-bit integers.

    Raises:
        WireError: a length or a number goes past the end, or a field is of no known wire type.
    """
    at, end = 0, len(message)
    while at < end:
        key = message[at]
        at += 1
        if key > 127:
            key, at = _varint(message, at - 1, end, _LONGEST_KEY)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise WireError(f"field number {number} at byte {at}")
        if wire == BYTES:
            if at >= end:
                raise WireError(f"the end within a length at byte {at}")
            length = message[at]
            at += 1
            if length > 127:
                length, at = _varint(message, at - 1, end, _LONGEST_VARINT)
            if length > end - at:
                raise WireError(f"a length of {length} where {end - at} bytes are left, at byte {at}")
            yield number, wire, message[at : at + length]
            at += length
        elif wire == VARINT:
            value, at = _varint(message, at, end, _LONGEST_VARINT)
            yield number, wire, value
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            if size > end - at:
                raise WireError(f"the end within a number at byte {at}")
            yield number, wire, message[at : at + size]
            at += size
        else:
            raise WireError(f"wire type {wire} at byte {at}")


def count_varints(packed: memoryview) -> int:
    """How many varints a packed list holds.

    Raises:
        WireError: one has no end, or is longer than it needs to be.
    """
    if not len(packed):
        return 0
    values = np.frombuffer(packed, dtype=np.uint8)
    ends = np.flatnonzero(values < 128)
    if not len(ends) or ends[-1] != len(values) - 1:
        raise WireError("a list of numbers without an end")
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _LONGEST_VARINT or ((values[ends] == 0) & (lengths > 1)).any():
        raise WireError("a number in a list that is longer than it needs to be")
    return len(ends)


def read_varints(packed: memoryview, most: int) -> list[int]:
    """The varints of a packed list, at most `most`.

    Raises:
        WireError: more, or the last one is cut short.
    """
    found: list[int] = []
    at = 0
    while at < len(packed):
        if len(found) == most:
            raise WireError(f"more than {most} numbers in a list")
        number, at = _varint(packed, at, len(packed), _LONGEST_VARINT)
        found.append(number)
    return found


def write_varint(value: int) -> bytes:
    """A varint in as few bytes as it needs."""
    if value < 128:
        return bytes((value,))
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def write_key(number: int, wire: int) -> bytes:
    """What stands before a field's value."""
    return write_varint(number << 3 | wire)


def write_field(number: int, value: int | bytes) -> bytes:
    """A whole field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return write_key(number, VARINT) + write_varint(value)
    return write_key(number, BYTES) + write_varint(len(value)) + value


def _varint(message: memoryview, at: int, end: int, longest: int) -> tuple[int, int]:
    value = shift = 0
    last = min(end, at + longest)
    while at < last:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & _MASK, at
        shift += 7
    raise WireError(f"a number without an end at byte {at}")
