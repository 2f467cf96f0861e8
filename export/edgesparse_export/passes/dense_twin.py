"""The same weights with dense attention: what a sparse model outputs when every block is kept.

1. Each `edgesparse::SparseAttention` becomes onnxruntime's fused `com.microsoft::MultiHeadAttention` over the
   same queries, keys and values.
2. What only the selection needed goes: router, `top_p`, `max_blocks`, the selection outputs, the body.
3. Models with grouped heads have no twin: the fused operator has no such form.

On short windows the router and the selection can cost more than they save; the runtime then uses the twin
(docs/concepts/break-even.md).
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from edgesparse_export.functions.domain import DOMAIN

FUSED_DOMAIN = "com.microsoft"


def dense_twin(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A dense model of the same scores as `model` at 100 % density, or None where there is none.

    Args:
        model: float32 or int8; of int8 the linear layers stay int8, attention becomes float32.
    """
    nodes = [n for n in model.graph.node if n.domain == DOMAIN and n.op_type == "SparseAttention"]
    if not nodes:
        return None
    replaced: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if settings["kv_num_heads"] != settings["num_heads"]:
            return None
        replaced[node.name] = _fused(model.graph, node, settings)
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    del twin.graph.node[:]
    for node in model.graph.node:
        twin.graph.node.extend(replaced.get(node.name, [node]))
    outputs = [output for output in model.graph.output if not output.name.startswith("selection.")]
    del twin.graph.output[:]
    twin.graph.output.extend(outputs)
    _remove_unused(twin)
    if all(entry.domain != FUSED_DOMAIN for entry in twin.opset_import):
        twin.opset_import.append(helper.make_opsetid(FUSED_DOMAIN, 1))
    return twin


def _fused(graph: onnx.GraphProto, node: onnx.NodeProto, settings: dict[str, object]) -> list[onnx.NodeProto]:
    query, key, value, *_, key_mask = list(node.input)[:7]
    made, inputs = [], [query, key, value]
    if not _is_all_true(graph, key_mask):
        # With a mask onnxruntime leaves its fast path, so only a model that has padding gets one.
        mask = f"{node.output[0]}.key_padding_mask"
        made.append(
            helper.make_node("Cast", [key_mask], [mask], name=f"{node.name}.mask", to=onnx.TensorProto.INT32)
        )
        inputs += ["", mask]
    made.append(
        helper.make_node(
            "MultiHeadAttention",
            inputs,
            [node.output[0]],
            name=node.name,
            domain=FUSED_DOMAIN,
            num_heads=settings["num_heads"],
            scale=settings["scale"],
            unidirectional=settings.get("is_causal", 0),
        )
    )
    for part in made:
        part.metadata_props.extend(node.metadata_props)
    return made


def _is_all_true(graph: onnx.GraphProto, name: str) -> bool:
    """True for `Expand(true, shape)`, which is what a model without padding masks by."""
    made = next((n for n in graph.node if name in n.output), None)
    if made is None or made.op_type != "Expand":
        return False
    held = next((i for i in graph.initializer if i.name == made.input[0]), None)
    if held is None:
        source = next((n for n in graph.node if made.input[0] in n.output and n.op_type == "Constant"), None)
        held = None if source is None else next((a.t for a in source.attribute if a.name == "value"), None)
    return held is not None and bool(numpy_helper.to_array(held).all())


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
        field.extend(held)
    del graph.value_info[:]
    used = {(node.domain, node.op_type) for node in graph.node}
    functions = [f for f in model.functions if (f.domain, f.name) in used]
    del model.functions[:]
    model.functions.extend(functions)
