"""Collects the nodes of a function body that is built in Python."""

from __future__ import annotations

from onnx import NodeProto, helper


class Nodes:
    """Each call adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def __call__(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))  # type: ignore[arg-type]
        return name

    def integers(self, *values: int) -> str:
        """A constant vector."""
        return self("Constant", value_ints=list(values))

    def number(self, value: float) -> str:
        """A constant number."""
        return self("Constant", value_float=value)
