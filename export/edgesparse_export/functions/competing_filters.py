"""`edgesparse::CompetingFilters` as a model-local ONNX function: groups of filters in standard operators.

A function body cannot loop over an attribute, so this one is built for the dilations of the model that
carries it; the node names them as an attribute too, for kernels.

Shapes: `B` batch, `C` channels, `T` steps, `L` dilations, `G` groups, `K` filters of a group.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx import FunctionProto, TensorProto, helper

from edgesparse_export.functions.domain import DOMAIN
from edgesparse_export.functions.nodes import Nodes

NAME = "CompetingFilters"
INPUTS = ("window", "real", "weight", "sharpness")
LENGTH = 9


def competing_body(dilations: Sequence[int]) -> ir.Function:
    """The function for these dilations.

    Inputs: window [B, C, T] without missing values, real bool [B, T], weight [L, G*K, C, 9], sharpness
    [L, G]. Output: features [B, L * 3 * G*K], for each dilation the means over the window's real steps of
    `wins * most`, `wins` and `loses`, where with the responses scaled by `sharpness`

    - most, least: the largest and the smallest of a group at a step,
    - wins = max(0, scaled - most + 1), loses = max(0, least - scaled + 1).
    """
    n = Nodes()
    one, last, second = n.number(1.0), n.integers(-1), n.integers(2)
    batch, steps = n("Shape", "window", start=0, end=1), n("Shape", "window", start=2, end=3)
    real = n("Cast", "real", to=TensorProto.FLOAT)
    count = n("Max", n("ReduceSum", real, last, keepdims=1), one)
    # [B, 1, T, 1]: a product with it is the mean over the real steps.
    share = n("Unsqueeze", n("Div", real, count), n.integers(1, 3))
    groups = n("Shape", "sharpness", start=1, end=2)
    grouped = n("Concat", batch, groups, last, steps, axis=0)
    flat = n("Concat", batch, last, axis=0)
    parts = []
    for i, dilation in enumerate(dilations):
        place = n("Squeeze", n.integers(i))
        around = dilation * (LENGTH // 2)
        weight = n("Gather", "weight", place, axis=0)
        response = n("Conv", "window", weight, dilations=[dilation], pads=[around, around])
        sharpness = n("Unsqueeze", n("Gather", "sharpness", place, axis=0), n.integers(1, 2))
        scaled = n("Mul", n("Reshape", response, grouped), sharpness)
        most, least = n("ReduceMax", scaled, second), n("ReduceMin", scaled, second)
        wins = n("Relu", n("Add", n("Sub", scaled, most), one))
        loses = n("Relu", n("Add", n("Sub", least, scaled), one))
        parts += [
            n("Reshape", n("MatMul", counted, share), flat) for counted in (n("Mul", wins, most), wins, loses)
        ]
    n("Concat", *parts, axis=1, output="features")
    function: FunctionProto = helper.make_function(
        DOMAIN, NAME, INPUTS, ["features"], n.nodes, [helper.make_opsetid("", 18)], ["dilations"]
    )
    return ir.serde.deserialize_function(function)
