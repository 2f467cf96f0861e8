"""A fusion that onnxruntime misses in what torch exports, made for the dense rivals: GELU as one operator."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from edgesparse_export.passes.match import is_number, only_user, other_input


def fuse_gelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """`h * (erf(h / sqrt(2)) + 1) * 0.5` becomes `com.microsoft.Gelu`."""
    graph_model = ir.serde.deserialize_model(model)
    for divide in list(graph_model.graph):
        if divide.op_type != "Div" or not is_number(divide.inputs[1], math.sqrt(2.0)):
            continue
        h, chain = divide.inputs[0], [divide]
        for kind in ("Erf", "Add", "Mul", "Mul"):
            following = only_user(chain[-1].outputs[0])
            if following is None or following.op_type != kind:
                break
            chain.append(following)
        if h is None or len(chain) != 5 or other_input(chain[-1], chain[-2].outputs[0]) is not h:
            continue
        node = ir.node("Gelu", [h], domain="com.microsoft", name=f"{divide.name}.gelu")
        old = chain[-1].outputs[0]
        node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = old.name, old.shape, old.type
        ir.convenience.replace_nodes_and_values(
            graph_model.graph, chain[-1], chain[::-1], [node], [old], [node.outputs[0]]
        )
    graph_model.opset_imports["com.microsoft"] = 1
    return ir.serde.serialize_model(graph_model)
