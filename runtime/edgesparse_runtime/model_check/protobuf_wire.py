"""Protobuf's wire format, read without protobuf: the fields of a message, bounded and checked.

A message is a list of (number, value): integers for varints, bytes for the rest. Nothing is copied, and
nothing is allocated from a length that the input states. Groups, which proto3 has not, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

_LONGEST_VARINT = 10
_LONGEST_KEY = 5


class WireError(ValueError):
    """The bytes are no protobuf message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field, in order; varints as unsigned 64-bit integers.

    Raises:
        WireError: a length or a number goes past the end, or a field is of no known kind.
    """
    at, end = 0, len(message)
    while at < end:
        key = message[at]
        at += 1
        if key > 127:
            key, at = _varint(message, at - 1, end, _LONGEST_KEY)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise WireError(f"field number {number} at byte {at}")
        if kind == 2:
            if at >= end:
                raise WireError(f"the end within a length at byte {at}")
            length = message[at]
            at += 1
            if length > 127:
                length, at = _varint(message, at - 1, end, _LONGEST_VARINT)
            if length > end - at:
                raise WireError(f"a length of {length} where {end - at} bytes are left, at byte {at}")
            yield number, message[at : at + length]
            at += length
        elif kind == 0:
            value, at = _varint(message, at, end, _LONGEST_VARINT)
            yield number, value
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if size > end - at:
                raise WireError(f"the end within a number at byte {at}")
            yield number, message[at : at + size]
            at += size
        else:
            raise WireError(f"wire type {kind} at byte {at}")


def count_packed(value: memoryview) -> int:
    """How many varints a packed field holds: those bytes that end one."""
    return sum(1 for byte in value if byte < 128)


def packed_varints(value: memoryview, most: int) -> list[int]:
    """The varints of a packed field, at most `most`.

    Raises:
        WireError: more, or the last one is cut short.
    """
    found: list[int] = []
    at = 0
    while at < len(value):
        if len(found) == most:
            raise WireError(f"more than {most} numbers in a list")
        number, at = _varint(value, at, len(value), _LONGEST_VARINT)
        found.append(number)
    return found


def _varint(message: memoryview, at: int, end: int, longest: int) -> tuple[int, int]:
    value = shift = 0
    last = min(end, at + longest)
    while at < last:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise WireError(f"a number without an end at byte {at}")
