"""A traced program as the function body of an operator."""

from __future__ import annotations

import onnx_ir as ir

from edgesparse_export.functions.domain import DOMAIN


def traced_function(traced: ir.Model, node: ir.Node) -> ir.Function:
    """The function of the operator that `node` is one of; its attributes are declared and not read."""
    graph = traced.graph
    for value in list(graph.initializers.values()):
        constant = ir.Node("", "Constant", [], [ir.AttrTensor("value", value.const_value)])  # type: ignore[arg-type]
        graph.insert_before(graph[0], constant)
        ir.convenience.replace_all_uses_with(value, constant.outputs[0])
        del graph.initializers[value.name]  # type: ignore[arg-type]
        constant.outputs[0].name = value.name
    declared = [ir.Attr(key, attribute.type, None) for key, attribute in node.attributes.items()]
    function = ir.Function(DOMAIN, node.op_type, graph=graph, attributes=declared)
    function.opset_imports.update(traced.opset_imports)
    return function
