"""Model files of hostile meaning: valid protobuf, changed where a reader could be led astray.

A model is taken apart into fields, some are changed by the table of ONNX's messages, and it is put together
again: wire types, repetition, order, unknown fields, numbers at the edges, names, operators, nesting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from edgesparse_runtime.model_check.onnx_messages import MESSAGES
from edgesparse_runtime.model_check.protobuf_wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    fields,
    write_key,
    write_varint,
)

NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    16,
    127,
    128,
    255,
    1 << 16,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    (1 << 32) + 1,
    1 << 63,
    (1 << 64) - 1,
)
TEXTS = (
    *(b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft", b"edgesparse", b"edgesparse:Double", b"x:y", b"3"),
    *(
        b"Double",
        b"Identity",
        b"Loop",
        b"Scan",
        b"If",
        b"Relu",
        b"Scaler",
        b"EPContext",
        b"MaxUnpool",
        b"Constant",
    ),
    *(
        b"window",
        b"scores",
        b"\n",
        b"\xff",
        b"\xe2\x80\xae",
        b"ORTM",
        b"axes",
        b"then_branch",
        b"value",
        b"x" * 2000,
    ),
)

# Far deeper than is read, and no deeper than Python can write: a part takes two frames.
_DEEPEST = 300


@dataclass
class Part:
    """One field: a number, bytes, or the fields of a message."""

    number: int
    wire: int
    value: int | bytes = 0
    message: str = ""
    inner: list[Part] = field(default_factory=list)

    def copy(self) -> Part:
        """A part of its own; `copy.deepcopy` takes five frames for each level, and models nest deep."""
        return Part(self.number, self.wire, self.value, self.message, [part.copy() for part in self.inner])

    def write(self) -> bytes:
        """The field's bytes."""
        key = write_key(self.number, self.wire)
        if self.wire == VARINT:
            assert isinstance(self.value, int)
            return key + write_varint(self.value)
        content = b"".join(part.write() for part in self.inner) if self.message else self.value
        assert isinstance(content, bytes)
        if self.wire == BYTES:
            return key + write_varint(len(content)) + content
        return key + content.ljust(8, b"\0")[: 8 if self.wire == FIXED64 else 4]


def take_apart(content: bytes, message: str = "Model") -> list[Part]:
    """The fields of a message, and those of the messages in it."""
    table, parts = MESSAGES[message].by_number, []
    for number, wire, value in fields(memoryview(content)):
        inner = table[number].message if number in table and wire == BYTES else ""
        if isinstance(value, int):
            parts.append(Part(number, wire, value))
        elif inner:
            parts.append(Part(number, wire, b"", inner, take_apart(bytes(value), inner)))
        else:
            parts.append(Part(number, wire, bytes(value)))
    return parts


def _depth(whole: Part) -> int:
    level, depth = [whole], 0
    while level:
        level, depth = [inner for part in level for inner in part.inner], depth + 1
    return depth


class ModelFuzzer:
    """An endless supply of files like a model, each changed in a few places."""

    def __init__(self, seeds: list[bytes], seed: int) -> None:
        self._draw = random.Random(seed)
        self._seeds = seeds

    def make(self) -> bytes:
        """One file."""
        draw = self._draw
        whole = Part(1, BYTES, b"", "Model", take_apart(draw.choice(self._seeds)))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 5))):
            self._change(whole)
        return b"".join(part.write() for part in whole.inner)

    def _change(self, whole: Part) -> None:
        draw = self._draw
        holders = [whole]
        for holder in holders:
            holders += [part for part in holder.inner if part.message]
        holder = draw.choice([h for h in holders if h.inner])
        at = draw.randrange(len(holder.inner))
        part = holder.inner[at]
        kind = draw.randrange(9)
        if kind == 0:
            holder.inner.insert(draw.randrange(len(holder.inner) + 1), part)
        elif kind == 1:
            del holder.inner[at]
        elif kind == 2:
            draw.shuffle(holder.inner)
        elif kind == 3:
            wire = draw.choice((VARINT, FIXED32, FIXED64, BYTES))
            holder.inner.insert(at + 1, self._leaf(part.number, wire))
        elif kind == 4:
            number = draw.choice([*MESSAGES[holder.message].by_number, draw.randrange(1, 40)])
            holder.inner.insert(at, self._leaf(number, draw.choice((VARINT, BYTES))))
        elif kind == 5:
            holder.inner[at] = self._leaf(part.number, part.wire)
        elif kind == 6:
            # A message of the same kind from elsewhere, so that graphs and functions nest.
            others = [h for h in holders if h.message == part.message and h is not part]
            if part.message and others:
                copies = [inner.copy() for inner in draw.choice(others).inner]
                holder.inner[at] = Part(part.number, BYTES, b"", part.message, copies)
                if _depth(whole) > _DEEPEST or len(b"".join(p.write() for p in whole.inner)) > 1 << 16:
                    holder.inner[at] = part
        elif kind == 7:
            texts = [p for p in holder.inner if not p.message and p.wire == BYTES]
            if texts:
                draw.choice(texts).value = draw.choice(TEXTS)
        else:
            numbers = [p for p in holder.inner if p.wire == VARINT]
            if numbers:
                draw.choice(numbers).value = draw.choice(NUMBERS)

    def _leaf(self, number: int, wire: int) -> Part:
        value = self._draw.choice(NUMBERS) if wire == VARINT else self._draw.choice(TEXTS)
        return Part(number, wire, value)
