"""Gives a model the function bodies of those of our operators that it holds."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgesparse_export.functions.competing_filters import NAME as COMPETING
from edgesparse_export.functions.competing_filters import competing_body
from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.functions.filter_bank import bank_body
from edgesparse_export.functions.layers import bodies
from edgesparse_export.functions.window_attention import NAME as WINDOW
from edgesparse_export.functions.window_attention import window_body


def attach_bodies(model: ir.Model) -> None:
    """Adds the functions of every `edgesparse` node, and the domain's version.

    Raises:
        ValueError: two stems of different dilations or patch; a body fits one of them only.
    """
    nodes = [node for node in model.graph if node.domain == DOMAIN]
    functions = bodies(
        {node.op_type for node in nodes},
        same_tokens=all(_is_of_same_tokens(n) for n in nodes if n.op_type == "SparseAttention"),
    )
    banks = {
        (
            tuple(n.attributes["dilations"].as_ints()),
            n.attributes["patch"].as_int(),
            n.attributes["before"].as_int(),
        )
        for n in nodes
        if n.op_type in ("FilterBank", "FilterBankLinear")
    }
    if len(banks) > 1:
        raise ValueError(f"A model must hold filter banks of one kind; got {sorted(banks)}.")
    functions += [bank_body(*kind) for kind in banks]
    functions += [window_body()] if any(n.op_type == WINDOW for n in nodes) else []
    competing = {tuple(n.attributes["dilations"].as_ints()) for n in nodes if n.op_type == COMPETING}
    if len(competing) > 1:
        raise ValueError(f"A model must hold competing filters of one kind; got {sorted(competing)}.")
    functions += [competing_body(kind) for kind in competing]
    for function in functions:
        model.functions[function.identifier()] = function
    if functions:
        model.opset_imports[DOMAIN] = VERSION


def _is_of_same_tokens(node: ir.Node) -> bool:
    """True where a router scored this query under this mask: all that it takes is of one length."""
    query, scores, mask = node.inputs[0], node.inputs[3], node.inputs[6]
    router = scores.producer() if scores else None
    return (
        router is not None
        and (router.domain, router.op_type) == (DOMAIN, "BlockScores")
        and router.inputs[0] is query
        and router.inputs[4] is mask
    )


def with_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """`attach_bodies` for a model as protobuf."""
    converted = ir.serde.deserialize_model(model)
    attach_bodies(converted)
    return ir.serde.serialize_model(converted)
