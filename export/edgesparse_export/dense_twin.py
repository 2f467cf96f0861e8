"""The same weights with dense attention: what a sparse model says when every block is kept.

1. Each `edgesparse::SparseAttention` becomes onnxruntime's fused `com.microsoft::MultiHeadAttention` over the
   same queries, keys and values.
2. What only the selection needed goes: router, `top_p`, `max_blocks`, the selection outputs, the body.
3. Declines (None) where the fused operator has no such form: causal attention and grouped heads.

On short windows the router and the selection can cost more than they save; the runner then takes the twin
(docs/profile.md, break-even).
"""

from __future__ import annotations

import onnx
from onnx import helper

DOMAIN = "com.microsoft"


def dense_twin(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A dense model of the same scores as `model` at 100 % density, or None where there is none."""
    nodes = [node for node in model.graph.node if node.op_type == "SparseAttention"]
    if not nodes:
        return None
    replaced: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if settings.get("is_causal") or settings["kv_num_heads"] != settings["num_heads"]:
            return None
        replaced[node.name] = _fused(node, settings)
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    del twin.graph.node[:]
    for node in model.graph.node:
        twin.graph.node.extend(replaced.get(node.name, [node]))
    outputs = [output for output in model.graph.output if not output.name.startswith("selection.")]
    del twin.graph.output[:]
    twin.graph.output.extend(outputs)
    _remove_unused(twin)
    if all(entry.domain != DOMAIN for entry in twin.opset_import):
        twin.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return twin


def _fused(node: onnx.NodeProto, settings: dict[str, object]) -> list[onnx.NodeProto]:
    query, key, value, *_, key_mask = list(node.input)[:7]
    mask = f"{node.output[0]}.key_padding_mask"
    cast = helper.make_node("Cast", [key_mask], [mask], name=f"{node.name}.mask", to=onnx.TensorProto.INT32)
    fused = helper.make_node(
        "MultiHeadAttention",
        [query, key, value, "", mask],
        [node.output[0]],
        name=node.name,
        domain=DOMAIN,
        num_heads=settings["num_heads"],
        scale=settings["scale"],
    )
    for made in (cast, fused):
        made.metadata_props.extend(node.metadata_props)
    return [cast, fused]


def _remove_unused(model: onnx.ModelProto) -> None:
    """Drop nodes, weights, inputs and functions that no output needs."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
            for attribute in node.attribute:
                # A subgraph reads names of the graph around it.
                needed |= {name for inner in attribute.g.node for name in inner.input}
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for field in (graph.initializer, graph.input):
        held = [entry for entry in field if entry.name in needed]
        del field[:]
        field.extend(held)  # type: ignore[arg-type]
    del graph.value_info[:]
    used = {(node.domain, node.op_type) for node in graph.node}
    functions = [f for f in model.functions if (f.domain, f.name) in used]
    del model.functions[:]
    model.functions.extend(functions)
