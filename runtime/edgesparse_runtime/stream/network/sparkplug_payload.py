"""Payloads of Sparkplug B (Eclipse, version 3.0): protobuf, read and written without protobuf.

```
Payload: timestamp 1, metrics 2 (repeated), seq 3
Metric:  name 1, alias 2, timestamp 3, datatype 4, is_historical 5, is_null 7,
         int 10, long 11, float 12, double 13, boolean 14, string 15
```

Times are milliseconds since 1970. Fields of other numbers (uuid, body, properties, data sets, templates) are
passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.model_check.protobuf_wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    WireError,
    fields,
    write_field,
    write_key,
)

# Metrics of a payload; what a device has more than that no model reads.
MOST_METRICS = 4096
INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64 = range(1, 9)
FLOAT, DOUBLE, BOOLEAN, STRING = range(9, 13)
_BITS = {INT8: 8, INT16: 16, INT32: 32, INT64: 64}
_INTEGERS = range(INT8, UINT64 + 1)
# Fields of a metric's value: number and wire type.
_INT, _LONG, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = range(10, 16)
_WIRES = {1: BYTES, 2: VARINT, 3: VARINT, 4: VARINT, 5: VARINT, 7: VARINT} | {
    _INT: VARINT,
    _LONG: VARINT,
    _FLOAT: FIXED32,
    _DOUBLE: FIXED64,
    _BOOLEAN: VARINT,
    _STRING: BYTES,
}

Value = int | float | bool | str


@dataclass(frozen=True)
class Metric:
    """One value of a device.

    Attributes:
        name: None where the alias stands for it.
        timestamp: milliseconds; None = the payload's.
        datatype: None where the birth certificate has stated it.
        value: None = there is none, or of a type that is no number, text or truth value.
    """

    name: str | None = None
    value: Value | None = None
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    is_historical: bool = False

    def signed(self, datatype: int | None) -> Value | None:
        """The value as a datatype has it: negative integers come as their two's complement.

        Some senders fill 32 bits and some only those of the type; both are read.
        """
        bits = _BITS.get(datatype or 0)
        if bits is None or not isinstance(self.value, int) or isinstance(self.value, bool):
            return self.value
        value = self.value & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value


@dataclass(frozen=True)
class Payload:
    """What one message says.

    Attributes:
        seq: 0 to 255, one more with each message of an edge node; None = not stated.
    """

    timestamp: int | None = None
    metrics: list[Metric] = field(default_factory=list)
    seq: int | None = None


def decode(message: bytes) -> Payload:
    """Read a payload.

    Raises:
        InputError: the bytes are none, or hold too many metrics.
    """
    timestamp = seq = None
    metrics: list[Metric] = []
    try:
        for number, wire, value in fields(memoryview(message)):
            if number == 2 and wire == BYTES and isinstance(value, memoryview):
                if len(metrics) == MOST_METRICS:
                    raise InputError(f"A Sparkplug payload must have at most {MOST_METRICS:,} metrics.")
                metrics.append(_metric(value))
            elif number in (1, 3) and wire == VARINT:
                assert isinstance(value, int)
                timestamp, seq = (value, seq) if number == 1 else (timestamp, value)
            elif number in (1, 2, 3):
                raise WireError(f"wire type {wire} of field {number}")
    except (WireError, UnicodeDecodeError) as error:
        raise InputError(f"A message under spBv1.0/ must be a Sparkplug B payload; {error}.") from None
    return Payload(timestamp, metrics, seq)


def encode(payload: Payload) -> bytes:
    """Write a payload; a metric must name its datatype."""
    return b"".join(_parts(payload))


def _metric(message: memoryview) -> Metric:
    found: dict[int, int | memoryview] = {}
    for number, wire, value in fields(message):
        if number in _WIRES:
            if wire != _WIRES[number]:
                raise WireError(f"wire type {wire} of a metric's field {number}")
            # The last one counts, also as the place in the order.
            found.pop(number, None)
            found[number] = value
    numbers = {key: value for key, value in found.items() if isinstance(value, int)}
    name = found.get(1)
    return Metric(
        None if name is None else bytes(name).decode(),
        None if numbers.get(7) else _value(found),
        numbers.get(2),
        numbers.get(3),
        numbers.get(4),
        bool(numbers.get(5)),
    )


def _value(found: dict[int, int | memoryview]) -> Value | None:
    """The last of the fields that hold one, as protobuf reads a choice."""
    given = [number for number in found if number in range(_INT, _STRING + 1)]
    if not given:
        return None
    number, value = given[-1], found[given[-1]]
    if isinstance(value, int):
        if number == _BOOLEAN:
            return bool(value)
        return value & 0xFFFFFFFF if number == _INT else value
    if number == _STRING:
        return bytes(value).decode()
    number_read: float = struct.unpack("<f" if number == _FLOAT else "<d", value)[0]
    return number_read


def _parts(payload: Payload) -> Iterator[bytes]:
    if payload.timestamp is not None:
        yield write_field(1, payload.timestamp)
    for metric in payload.metrics:
        yield write_field(2, b"".join(_metric_parts(metric)))
    if payload.seq is not None:
        yield write_field(3, payload.seq)


def _metric_parts(metric: Metric) -> Iterable[bytes]:
    if metric.name is not None:
        yield write_field(1, metric.name.encode())
    for number, value in ((2, metric.alias), (3, metric.timestamp), (4, metric.datatype)):
        if value is not None:
            yield write_field(number, value)
    if metric.is_historical:
        yield write_field(5, 1)
    yield _value_part(metric.value, metric.datatype)


def _value_part(value: Value | None, datatype: int | None) -> bytes:
    if value is None:
        return write_field(7, 1)
    if datatype == STRING:
        return write_field(_STRING, str(value).encode())
    if datatype == BOOLEAN:
        return write_field(_BOOLEAN, int(value))
    if datatype == FLOAT:
        return write_key(_FLOAT, FIXED32) + struct.pack("<f", value)
    if datatype == DOUBLE:
        return write_key(_DOUBLE, FIXED64) + struct.pack("<d", value)
    if datatype not in _INTEGERS:
        raise InputError(f"A metric's datatype must be a number's, a truth value's or text; got {datatype}.")
    is_long = datatype in (INT64, UINT64)
    bits = 64 if is_long else 32
    return write_field(_LONG if is_long else _INT, int(value) & ((1 << bits) - 1))
