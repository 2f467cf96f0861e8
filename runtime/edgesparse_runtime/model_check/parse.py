"""Bytes of an ONNX file to records, by the table of its messages.

A record holds a message's fields by name: numbers as unsigned integers, texts as `str`, data as views of the
file, lists as lists. What protobuf readers could understand in two ways is refused: a field in another wire
type than its own, a field that comes twice where it may come once, two of a choice, and unknown fields.
"""

from __future__ import annotations

from typing import Any

from edgesparse_runtime.model_check.limits import Limits, RuleError
from edgesparse_runtime.model_check.onnx_messages import MESSAGES, WIRE_TYPES, Field, Kind, Message, Use
from edgesparse_runtime.model_check.protobuf_wire import (
    BYTES,
    WireError,
    count_varints,
    fields,
    read_varints,
    write_varint,
)

Record = dict[str, Any]
_WIDTHS = {Kind.FLOAT: 4, Kind.DOUBLE: 8}
# A graph in an attribute of a node is three messages deeper; types and tensors add four.
_LEVELS_PER_GRAPH = 3
_LEVELS_BESIDES = 8


class Parser:
    """Reads one file; counts what it costs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._deepest = _LEVELS_PER_GRAPH * (limits.depth + 1) + _LEVELS_BESIDES
        self.fields = 0

    def parse(self, content: memoryview, name: str, level: int = 0) -> Record:
        """The record of a message.

        Raises:
            WireError: the bytes are not this message, or could be read in two ways.
            RuleError: they hold something that is refused, or too much.
        """
        if level > self._deepest:
            raise RuleError(f"nest graphs at most {self._limits.depth} deep")
        message = MESSAGES[name]
        record: Record = {}
        for number, wire, value in fields(content):
            self._count(1)
            field = message.by_number.get(number)
            if field is None:
                raise WireError(f"a field {number} in a {name}, which ONNX does not have")
            if field.use is Use.REFUSED:
                raise RuleError(field.refusal)
            if field.is_list:
                self._add(record.setdefault(field.name, []), field, wire, value, level)
                continue
            if field.name in record:
                raise WireError(f"field `{field.name}` of a {name} twice")
            if wire != WIRE_TYPES[field.kind]:
                raise WireError(f"field `{field.name}` of a {name} in wire type {wire}")
            record[field.name] = self._value(field, value, level)
        if message.choice:
            self._check_choice(message, record)
        return record

    def _add(self, found: list[Any], field: Field, wire: int, value: Any, level: int) -> None:
        """One more entry, or many, of a list: protobuf allows numbers one by one and as a run of bytes."""
        own = WIRE_TYPES[field.kind]
        if own != BYTES and wire == BYTES:
            found.extend([value] if field.is_packed else self._unpack(field, value))
        elif wire != own:
            raise WireError(f"field `{field.name}` in wire type {wire}")
        elif field.is_packed:
            found.append(memoryview(write_varint(value)) if isinstance(value, int) else value)
        else:
            found.append(self._value(field, value, level))

    def _unpack(self, field: Field, packed: memoryview) -> list[int | memoryview]:
        width = _WIDTHS.get(field.kind)
        if width is None:
            numbers = read_varints(packed, self._limits.fields - self.fields)
            self._count(len(numbers))
            return [*numbers]
        self._count(len(packed) // width)
        if len(packed) % width:
            raise WireError(f"a list `{field.name}` that ends within a number")
        return [packed[i : i + width] for i in range(0, len(packed), width)]

    def _value(self, field: Field, value: Any, level: int) -> Any:
        if field.kind is Kind.MESSAGE:
            return self.parse(value, field.message, level + 1)
        if field.kind is Kind.TEXT:
            return self._text(value)
        if field.kind is Kind.INT32 and value >> 31:
            raise WireError(f"field `{field.name}` of {value}")
        return value

    def _text(self, content: memoryview) -> str:
        if len(content) > self._limits.text:
            raise RuleError(f"name things in at most {self._limits.text} bytes")
        try:
            text = str(content, "utf-8")
        except UnicodeDecodeError:
            raise RuleError("name things in UTF-8") from None
        if not text.isprintable():
            raise RuleError(f"name things in printable characters; got {text[:60]!a}")
        return text

    def _count(self, more: int) -> None:
        self.fields += more
        if self.fields > self._limits.fields:
            raise RuleError(f"hold at most {self._limits.fields} fields")

    @staticmethod
    def _check_choice(message: Message, record: Record) -> None:
        if len(chosen := message.choice & record.keys()) > 1:
            names = " and ".join(f"`{name}`" for name in sorted(chosen))
            raise WireError(f"both {names} in a {message.name}")


def count_numbers(field_name: str, parts: list[memoryview]) -> int:
    """How many numbers the runs of a packed list of a tensor hold.

    Raises:
        WireError: one ends within a number.
    """
    field = next(f for f in MESSAGES["Tensor"].fields if f.name == field_name)
    width = _WIDTHS.get(field.kind)
    if width is None:
        return sum(count_varints(part) for part in parts)
    if any(len(part) % width for part in parts):
        raise WireError(f"a list `{field_name}` that ends within a number")
    return sum(len(part) for part in parts) // width
