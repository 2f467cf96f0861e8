"""What a model file may be, decided before onnxruntime sees it.

A model is somebody else's program. Rules:

1. It is a well-formed protobuf message of at most `largest` bytes; no field that ONNX has once comes twice.
2. Tensors lie in the file: no external data, and no tensor claims more elements than the file holds for it.
   Sparse tensors, whose dense form may be far larger than the file, are refused.
3. Operators are those of ONNX, onnxruntime (`com.microsoft`), ours (`edgesparse`), or functions that the
   file itself defines. None repeats a part of the model (Loop, Scan, SequenceMap) or loads another file
   (EPContext).
4. Nodes, tensors, functions, attributes and the depth of nested graphs are bounded; functions do not call
   themselves, and what they expand to is bounded too.
5. No training part.

The device has no `onnx` package: this reads the wire format itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.protobuf_wire import WireError, count_packed, fields, packed_varints

# Domains whose operators onnxruntime or our library brings. Every other must be defined in the file.
DOMAINS = ("", "ai.onnx", "com.microsoft", "edgesparse")
REFUSED_OPERATORS = ("Loop", "Scan", "SequenceMap", "EPContext")
_EXTERNAL = 1
_MOST_DIMENSIONS = 16
# Bytes of an element of each ONNX data type in `raw_data`; halves are types of four bits, None = strings.
_ELEMENT_BYTES: dict[int, float | None] = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 1.0),
    **dict.fromkeys((4, 5, 10, 16), 2.0),
    **dict.fromkeys((1, 6, 12), 4.0),
    **dict.fromkeys((7, 11, 13, 14), 8.0),
    **dict.fromkeys((21, 22, 23), 0.5),
    15: 16.0,
    8: None,
}

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Limits:
    """Far above what an exported model needs, far below what hurts."""

    largest: int = 2 << 30
    nodes: int = 50_000
    tensors: int = 50_000
    functions: int = 1_000
    attributes: int = 500_000
    expanded_nodes: int = 200_000
    depth: int = 8
    calls: int = 32
    text: int = 4_096


LIMITS = Limits()


@dataclass
class ModelFacts:
    """What was counted on the way.

    Attributes:
        nodes, tensors, functions, attributes: in all graphs and functions.
        tensor_bytes: of all tensors.
        domains: of all nodes.
        expanded_nodes: with every call of a function replaced by its nodes.
    """

    nodes: int = 0
    tensors: int = 0
    functions: int = 0
    attributes: int = 0
    tensor_bytes: int = 0
    expanded_nodes: int = 0
    domains: set[str] = field(default_factory=set)


def check_model(content: bytes, name: str, limits: Limits = LIMITS) -> ModelFacts:
    """Hold a model file against the rules; allocates nothing that grows with what the file claims.

    Args:
        name: of the file, for messages.

    Raises:
        BundleError: a rule is broken; says which.
    """
    if len(content) > limits.largest:
        raise BundleError(f"{name} must be at most {limits.largest} bytes; got {len(content)}.")
    reader = _Reader(limits)
    try:
        reader.read_model(memoryview(content))
        return reader.facts
    except WireError as error:
        raise BundleError(f"{name} must be an ONNX model; found {error}.") from None
    except _Broken as error:
        raise BundleError(f"{name} must {error}. It is not opened.") from None


class _Broken(Exception):
    """A rule that does not hold, as the rest of a sentence that begins `FILE must`."""


@dataclass
class _Body:
    """Nodes of a graph or function: how many, and how often each function is called."""

    nodes: int = 0
    calls: dict[_Key, int] = field(default_factory=dict)


class _Size(NamedTuple):
    """What a body comes to with its calls replaced: nodes, and how deep the calls go."""

    nodes: int
    depth: int


class _Reader:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.facts = ModelFacts()
        self._functions: dict[_Key, _Body] = {}

    def read_model(self, model: memoryview) -> None:
        graph: _Body | None = None
        for number, value in fields(model):
            if number == 7:
                if graph is not None:
                    raise _Broken("hold one graph; it holds two")
                graph = _Body()
                self._read_graph(_message(value), graph, 0)
            elif number == 20:
                raise _Broken("hold no training part")
            elif number == 25:
                self._read_function(_message(value))
        if graph is None:
            raise _Broken("hold a graph")
        self._check_calls(graph)

    def _read_graph(self, graph: memoryview, body: _Body, depth: int) -> None:
        if depth > self._limits.depth:
            raise _Broken(f"nest graphs at most {self._limits.depth} deep")
        for number, value in fields(graph):
            if number == 1:
                self._read_node(_message(value), body, depth)
            elif number == 5:
                self._read_tensor(_message(value))
            elif number in (11, 12):
                self._read_value(_message(value))
            elif number == 15:
                raise _Broken("hold no sparse tensors")

    def _read_value(self, value_info: memoryview) -> None:
        """Names of an input or output and of its dimensions: whoever opens the model asks for them."""
        for number, value in fields(value_info):
            if number == 1:
                self._text(value)
            elif number == 2:
                for tensor in _inside(value, 1):
                    for shape in _inside(tensor, 2):
                        for dimension in _inside(shape, 1):
                            for name in _inside(dimension, 2):
                                self._text(name)

    def _read_function(self, function: memoryview) -> None:
        self._count("functions")
        body, name, domain, overload = _Body(), "", "", ""
        for number, value in fields(function):
            if number == 1:
                name = self._text(value)
            elif number == 10:
                domain = self._text(value)
            elif number == 13:
                overload = self._text(value)
            elif number == 7:
                self._read_node(_message(value), body, 0)
            elif number == 11:
                self._read_attribute(_message(value), body, 0)
        key = (domain, name, overload)
        if key in self._functions:
            raise _Broken(f"define a function once; {_cut(name)} comes twice")
        self._functions[key] = body

    def _read_node(self, node: memoryview, body: _Body, depth: int) -> None:
        self._count("nodes")
        operator = domain = overload = ""
        for number, value in fields(node):
            if number == 4:
                operator = self._text(value)
            elif number == 7:
                domain = self._text(value)
            elif number == 8:
                overload = self._text(value)
            elif number == 5:
                self._read_attribute(_message(value), body, depth)
        if operator in REFUSED_OPERATORS:
            raise _Broken(f"hold no operator {operator}")
        self.facts.domains.add(domain)
        body.nodes += 1
        key = (domain, operator, overload)
        body.calls[key] = body.calls.get(key, 0) + 1

    def _read_attribute(self, attribute: memoryview, body: _Body, depth: int) -> None:
        self._count("attributes")
        seen: set[int] = set()
        for number, value in fields(attribute):
            if number in (5, 6):
                if number in seen:
                    raise _Broken("hold an attribute's tensor or graph once")
                seen.add(number)
            if number in (5, 10):
                self._read_tensor(_message(value))
            elif number in (6, 11):
                self._read_graph(_message(value), body, depth + 1)
            elif number in (22, 23):
                raise _Broken("hold no sparse tensors")

    def _read_tensor(self, tensor: memoryview) -> None:
        """Rule 2: what the dimensions claim must lie in the file."""
        self._count("tensors")
        dimensions: list[int] = []
        kind = stored = 0
        raw: int | None = None
        for number, value in fields(tensor):
            if number == 1:
                room = _MOST_DIMENSIONS - len(dimensions)
                dimensions += [value] if isinstance(value, int) else packed_varints(value, room)
                if len(dimensions) > _MOST_DIMENSIONS:
                    raise _Broken(f"hold tensors of at most {_MOST_DIMENSIONS} dimensions")
            elif number == 2:
                kind = value if isinstance(value, int) else 0
            elif number == 8:
                self._text(value)
            elif number == 9:
                raw = len(_message(value))
            elif number == 13 or (number == 14 and value == _EXTERNAL):
                raise _Broken("hold its tensors itself; one names another file")
            elif number == 3:
                raise _Broken("hold its tensors whole; one is a segment")
            elif number in (4, 5, 6, 7, 10, 11):
                stored += self._count_stored(number, value)
        if kind not in _ELEMENT_BYTES:
            raise _Broken(f"hold tensors of known types; got type {kind}")
        elements = math.prod(dimensions)
        width = _ELEMENT_BYTES[kind]
        if raw is not None:
            if width is None or raw != math.ceil(elements * width):
                raise _Broken(
                    f"hold {_cut(str(elements))} elements for a tensor's shape; it holds {raw} bytes"
                )
            self.facts.tensor_bytes += raw
        else:
            # Types of four bits are packed two in a number; complex numbers take two.
            if elements > stored * (2 if width == 0.5 else 1):
                raise _Broken(f"hold {_cut(str(elements))} elements for a tensor's shape; it holds {stored}")
            self.facts.tensor_bytes += stored * 8

    def _count_stored(self, number: int, value: int | memoryview) -> int:
        if number == 6 or isinstance(value, int):
            return 1
        if number in (4, 10):
            return len(value) // (4 if number == 4 else 8)
        return count_packed(value)

    def _check_calls(self, graph: _Body) -> None:
        """Rules 3 and 4: every operator is known, and functions end."""
        for body in (graph, *self._functions.values()):
            for domain, operator, overload in body.calls:
                if domain not in DOMAINS and (domain, operator, overload) not in self._functions:
                    raise _Broken(
                        f"hold operators of ONNX, onnxruntime and edgesparse only; got {_cut(operator)} of "
                        f"domain {_cut(domain)}"
                    )
        sizes: dict[_Key, _Size] = {}
        for key in self._functions:
            self._expand(key, sizes)
        self.facts.expanded_nodes = self._sum(graph, sizes).nodes

    def _expand(self, key: _Key, sizes: dict[_Key, _Size]) -> None:
        """What a call of the function comes to; a stack of our own, so that none overflows."""
        path: set[_Key] = set()
        stack = [(key, False)]
        while stack:
            top, is_done = stack.pop()
            if is_done:
                sizes[top] = self._sum(self._functions[top], sizes)
                path.remove(top)
            elif top in path:
                raise _Broken(f"define functions that end; {_cut(top[1])} calls itself")
            elif top not in sizes:
                path.add(top)
                stack.append((top, True))
                stack.extend((k, False) for k in self._functions[top].calls if k in self._functions)

    def _sum(self, body: _Body, sizes: dict[_Key, _Size]) -> _Size:
        called = [(sizes[key], times) for key, times in body.calls.items() if key in sizes]
        nodes = body.nodes + sum(size.nodes * times for size, times in called)
        depth = 1 + max((size.depth for size, _ in called), default=0)
        if nodes > self._limits.expanded_nodes:
            raise _Broken(f"expand to at most {self._limits.expanded_nodes} nodes")
        if depth > self._limits.calls:
            raise _Broken(f"nest calls of functions at most {self._limits.calls} deep")
        return _Size(nodes, depth)

    def _count(self, what: str) -> None:
        most = getattr(self._limits, what)
        found = getattr(self.facts, what) + 1
        if found > most:
            raise _Broken(f"hold at most {most} {what}")
        setattr(self.facts, what, found)

    def _text(self, value: int | memoryview) -> str:
        content = _message(value)
        if len(content) > self._limits.text:
            raise _Broken(f"name things in at most {self._limits.text} bytes")
        try:
            return str(content, "utf-8")
        except UnicodeDecodeError:
            raise _Broken("name things in UTF-8") from None


def _inside(message: int | memoryview, wanted: int) -> list[memoryview]:
    """Messages and texts of one number in a message."""
    return [_message(value) for number, value in fields(_message(message)) if number == wanted]


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise WireError("a number where a message belongs")
    return value


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
