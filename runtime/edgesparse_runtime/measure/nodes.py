"""Reads the nodes of an ONNX file, without onnx: names, operators, tensors, and the module each came from.

Only what is needed of the protobuf format: the graph and its nodes; weights are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgesparse_runtime.errors import BundleError

AROUND = "(around the layers)"
_SCOPES = "pkg.torch.onnx.name_scopes"
_LONGEST_SCOPES = 10_000
# What exporters, this one and earlier ones, wrap the model in; torch marks what is outside of any module.
_WRAPPERS = ("scores.model", "scores", "model", "")
# Field numbers of onnx.proto.
MODEL_GRAPH = 7
GRAPH_NODE = 1
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR, NODE_METADATA = 1, 2, 3, 4, 9
ENTRY_KEY, ENTRY_VALUE = 1, 2
_NAME = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"")
_LIST = re.compile(rf"\[(?:(?:{_NAME.pattern})(?:, ?(?:{_NAME.pattern}))*)?\]")


@dataclass(frozen=True)
class Node:
    """One node of a graph.

    Attributes:
        name: as onnxruntime's profile calls it.
        operator: its type.
        inputs, outputs: tensor names.
        module: the PyTorch module that it came from, or None where the file does not tell.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    module: str | None


def read_nodes(content: bytes) -> list[Node]:
    """The nodes of the main graph in their order.

    Raises:
        BundleError: not an ONNX file.
    """
    try:
        nodes = []
        for number, graph in _fields(memoryview(content)):
            if number == MODEL_GRAPH and isinstance(graph, memoryview):
                inner = [node for place, node in _fields(graph) if place == GRAPH_NODE]
                nodes += [_node(node) for node in inner if isinstance(node, memoryview)]
        return nodes
    except (IndexError, ValueError):
        raise BundleError("The model must be an ONNX file; its bytes are not. Export it again.") from None


def _node(content: memoryview) -> Node:
    parts: dict[int, list[memoryview]] = {}
    for number, value in _fields(content):
        if isinstance(value, memoryview):
            parts.setdefault(number, []).append(value)

    def texts(number: int) -> tuple[str, ...]:
        return tuple(_text(value) for value in parts.get(number, []))

    name, operator = ("", *texts(NODE_NAME))[-1], ("", *texts(NODE_OPERATOR))[-1]
    scopes = ""
    for entry in parts.get(NODE_METADATA, []):
        fields = {number: _text(value) for number, value in _fields(entry) if isinstance(value, memoryview)}
        if fields.get(ENTRY_KEY) == _SCOPES:
            scopes = fields.get(ENTRY_VALUE, "")
    return Node(name, operator, texts(NODE_INPUT), texts(NODE_OUTPUT), module_of(scopes))


def module_of(scopes: str) -> str | None:
    """The module in torch's list of scopes, which ends with the operation: "layers.0.attention"."""
    # A file can come from anybody: what is not a plain list of plain names is not read, whatever it is.
    if len(scopes) > _LONGEST_SCOPES or _LIST.fullmatch(scopes) is None:
        return None
    names: list[str] = [name[1:-1] for name in _NAME.findall(scopes)]
    if len(names) < 2:
        return None
    name = names[-2]
    if name in _WRAPPERS or name.startswith("_empty_nn"):
        return AROUND
    # The longest wrapper first; attention's core is counted as the attention layer that it belongs to.
    for wrapper in _WRAPPERS:
        name = name.removeprefix(f"{wrapper}.") if wrapper else name
    return name.removesuffix(".sparse_core")


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at, end = 0, len(content)
    while at < end:
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(content, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("unknown wire type")
        if at + size > end:
            raise ValueError("a field is longer than its message")
        yield number, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")
