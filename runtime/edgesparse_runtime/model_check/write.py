"""Records to bytes, in the one form that every protobuf reader understands alike.

Fields in the order of their numbers, lists of numbers as onnx.proto says, varints as short as they can be.
Only what was read and kept is written.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from edgesparse_runtime.model_check.onnx_messages import MESSAGES, WIRE_TYPES, Field, Kind, Use
from edgesparse_runtime.model_check.parse import Record
from edgesparse_runtime.model_check.protobuf_wire import BYTES, VARINT, write_key, write_varint

_number = attrgetter("number")
_Parts = list[bytes | memoryview]


def write_message(record: Record, name: str) -> bytes:
    """The bytes of a message."""
    parts: _Parts = []
    _write(record, name, parts)
    return b"".join(parts)


def _write(record: Record, name: str, parts: _Parts) -> int:
    """Appends the message's parts; returns their size."""
    size, by_name = 0, MESSAGES[name].by_name
    for field in sorted((by_name[key] for key in record), key=_number):
        if field.use is not Use.KEPT:
            continue
        value = record[field.name]
        if field.is_packed:
            size += _append(field.number, BYTES, value, sum(map(len, value)), parts)
            continue
        for item in value if field.is_list else (value,):
            size += _write_item(field, item, parts)
    return size


def _write_item(field: Field, value: Any, parts: _Parts) -> int:
    if field.kind is Kind.MESSAGE:
        inner: _Parts = []
        length = _write(value, field.message, inner)
        return _append(field.number, BYTES, inner, length, parts)
    if field.kind is Kind.TEXT:
        value = value.encode()
    wire = WIRE_TYPES[field.kind]
    if wire == VARINT:
        key = write_key(field.number, wire) + write_varint(value)
        parts.append(key)
        return len(key)
    return _append(field.number, wire, [value], len(value), parts)


def _append(number: int, wire: int, content: _Parts, length: int, parts: _Parts) -> int:
    key = write_key(number, wire) + (write_varint(length) if wire == BYTES else b"")
    parts.append(key)
    parts.extend(content)
    return len(key) + length
