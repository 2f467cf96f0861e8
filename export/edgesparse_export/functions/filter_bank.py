"""`edgesparse::FilterBank` as a model-local ONNX function: the stem in standard operators.

A function body cannot loop over an attribute, so this one is built for the dilations and the patch of the
model that carries it; the node names them as attributes too, for kernels.

Shapes: `B` batch, `C` channels, `T` steps, `L` dilations, `K` filters per dilation, `Q` thresholds, `N`
tokens, `F = L * K * Q` features.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx import FunctionProto, TensorProto, helper

from edgesparse_export.functions.domain import DOMAIN
from edgesparse_export.functions.nodes import Nodes

INPUTS = ("window", "real", "weight", "slope", "offset", "center", "spread")
LENGTH = 9


def bank_body(dilations: Sequence[int], patch: int, before: int) -> ir.Function:
    """The function for these dilations, this patch and `before` taps before a step (4 = around, 8 = causal).

    Inputs: window [B, C, T] without missing values, real bool [B, T], weight [L, K, C, 9], slope [L, K],
    offset [L, K, Q], center [F], spread [F]. Output: features [B, N, F]: a feature is the mean over a token's
    real steps of clip(slope * response + offset, 0, 1), less its center, over its spread.
    """
    n = Nodes()
    zero, one, last = n.number(0.0), n.number(1.0), n.integers(-1)
    batch, steps = n("Shape", "window", start=0, end=1), n("Shape", "window", start=2, end=3)
    size = n.integers(patch)
    tokens = n("Div", n("Sub", n("Add", steps, size), n.integers(1)), size)
    rest = n("Sub", n("Mul", tokens, size), steps)
    # Steps in tokens: [B, rows, N, patch].
    split = n("Concat", batch, last, tokens, size, axis=0)
    real = n("Pad", n("Cast", "real", to=TensorProto.FLOAT), n("Concat", n.integers(0, 0, 0), rest, axis=0))
    real_BN = n("Reshape", real, n("Concat", batch, n.integers(1), tokens, size, axis=0))
    count = n("Max", n("ReduceSum", real_BN, last, keepdims=0), one)
    thresholds = n("Shape", "offset", start=2, end=3)
    rows = n("Mul", n("Shape", "offset", start=1, end=2), thresholds)
    parts = []
    for i, dilation in enumerate(dilations):
        at = n.integers(i)
        place = n("Squeeze", at)
        weight = n("Gather", "weight", place, axis=0)
        response = n(
            "Conv",
            "window",
            weight,
            dilations=[dilation],
            pads=[before * dilation, (LENGTH - 1 - before) * dilation],
        )
        slope = n("Unsqueeze", n("Gather", "slope", place, axis=0), last)
        offset = n("Unsqueeze", n("Gather", "offset", place, axis=0), last)
        scaled = n("Unsqueeze", n("Mul", response, slope), n.integers(2))
        above = n("Clip", n("Add", scaled, offset), zero, one)
        flat = n("Reshape", above, n("Concat", batch, rows, steps, axis=0))
        padded = n("Pad", flat, n("Concat", n.integers(0, 0, 0, 0, 0), rest, axis=0))
        masked = n("Mul", n("Reshape", padded, split), real_BN)
        parts.append(n("Div", n("ReduceSum", masked, last, keepdims=0), count))
    shares = n("Transpose", n("Concat", *parts, axis=1), perm=[0, 2, 1])
    n("Div", n("Sub", shares, "center"), "spread", output="features")
    function: FunctionProto = helper.make_function(
        DOMAIN,
        "FilterBank",
        INPUTS,
        ["features"],
        n.nodes,
        [helper.make_opsetid("", 18)],
        ["dilations", "patch", "before"],
    )
    return ir.serde.deserialize_function(function)
