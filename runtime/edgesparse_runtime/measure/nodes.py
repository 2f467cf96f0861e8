"""Reads the nodes of an ONNX file, without onnx: names, operators, tensors, and the module each came from.

Only what is needed of the protobuf format: fields 7 (graph) and, in it, 1 (nodes); weights are skipped.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from edgesparse_runtime.errors import BundleError

AROUND = "(around the layers)"
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class Node:
    """One node of a graph.

    Attributes:
        name: as onnxruntime's profile calls it.
        operator: its type.
        inputs, outputs: tensor names.
        module: the PyTorch module that it came from, or None where the file does not say.
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
            if number == 7 and isinstance(graph, memoryview):
                for inner, node in _fields(graph):
                    if inner == 1 and isinstance(node, memoryview):
                        nodes.append(_node(node))
        return nodes
    except (IndexError, ValueError):
        raise BundleError("The model must be an ONNX file; its bytes are not. Export it again.") from None


def _node(content: memoryview) -> Node:
    inputs, outputs, names, operators, scopes = [], [], [""], [""], ""
    for number, value in _fields(content):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 3:
            names.append(_text(value))
        elif number == 4:
            operators.append(_text(value))
        elif number == 9:
            entry = {n: _text(v) for n, v in _fields(value) if isinstance(v, memoryview)}
            if entry.get(1) == _SCOPES:
                scopes = entry.get(2, "")
    return Node(names[-1], operators[-1], tuple(inputs), tuple(outputs), module_of(scopes))


def module_of(scopes: str) -> str | None:
    """The module in torch's list of scopes, which ends with the operation: "layers.0.attention"."""
    try:
        names = ast.literal_eval(scopes) if scopes else []
    except (ValueError, SyntaxError):
        return None
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(n, str) for n in names):
        return None
    # Our exporter wraps the model in a module that names it `model`; torch marks what is outside of any.
    name = str(names[-2])
    return AROUND if name in ("", "model") or name.startswith("_empty_nn") else name.removeprefix("model.")


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
