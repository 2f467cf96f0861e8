"""What the graph passes ask of a node and its neighbors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def constant_of(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The array of an initializer or constant, None for what is computed."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def is_number(value: ir.Value | None, wanted: float) -> bool:
    """True for a constant of one element with this value."""
    constant = constant_of(value)
    return constant is not None and constant.size == 1 and math.isclose(constant.item(), wanted, rel_tol=1e-6)


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The input of a node of two that is not `value`."""
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def only_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, None when there are others or it leaves the graph."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    return node.attributes[name].as_int() if name in node.attributes else default


def number(node: ir.Node, name: str, default: float) -> float:
    """A float attribute."""
    return node.attributes[name].as_float() if name in node.attributes else default
