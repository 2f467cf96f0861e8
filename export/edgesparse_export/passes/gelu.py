"""Writes GELU in the order that onnxruntime knows, and so runs with the bias before it as one operator.

PyTorch's exporter writes `h * (0.5 * (erf(h / sqrt(2)) + 1))`, and onnxruntime fuses
`0.5 * (h * (erf(...) + 1))`.
Halving is exact, so both have the same bits unless the result is subnormal.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from edgesparse_export.passes.match import is_number, only_user, other_input


def halve_last(model: ir.Model) -> int:
    """Reorders every GELU in place; returns how many there were."""
    return sum(_reorder(node) for node in list(model.graph))


def gelu_of(h: ir.Value) -> list[ir.Node]:
    """The nodes of the GELU that a value goes through and that nothing else reads, in order; [] = none."""
    divide = next((use.node for use in h.uses() if use.node.op_type == "Div"), None)
    if divide is None or divide.inputs[0] is not h or not is_number(divide.inputs[1], math.sqrt(2.0)):
        return []
    chain = [divide]
    for kind in ("Erf", "Add", "Mul", "Mul"):
        following = only_user(chain[-1].outputs[0])
        if following is None or following.op_type != kind or following.domain:
            return []
        chain.append(following)
    added, first, second = (other_input(chain[i], chain[i - 1].outputs[0]) for i in (2, 3, 4))
    factors = (first, second) if second is h else (second, first)
    is_gelu = is_number(added, 1.0) and is_number(factors[0], 0.5) and factors[1] is h
    return chain if is_gelu else []


def _reorder(divide: ir.Node) -> bool:
    h = divide.inputs[0] if divide.op_type == "Div" else None
    chain = [] if h is None else gelu_of(h)
    if not chain or chain[0] is not divide:
        return False
    first, second = chain[3], chain[4]
    half = other_input(first, chain[2].outputs[0])
    if half is not h:
        first.replace_input_with(list(first.inputs).index(half), h)
        second.replace_input_with(list(second.inputs).index(h), half)
    return True
