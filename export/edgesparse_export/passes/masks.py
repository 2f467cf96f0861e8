"""Makes one mask out of those that each layer of a model without padding fills with true for itself.

The function bodies of the operators compute much from the mask alone: with one mask, once per model. A value
is replaced by an earlier one only if

1. both are a true number expanded to a shape, and
2. the exporter wrote the same shape on both, every axis a number or an expression of free axes.
"""

from __future__ import annotations

import onnx_ir as ir


def share_masks(model: ir.Model) -> int:
    """Replaces every repeated mask in place; returns how many there were."""
    first: dict[tuple[str, ...], ir.Value] = {}
    repeated = []
    for node in model.graph:
        shape = _shape_of_mask(node)
        if shape is not None and first.setdefault(shape, node.outputs[0]) is not node.outputs[0]:
            repeated.append((node, first[shape]))
    for node, mask in repeated:
        ir.convenience.replace_all_uses_with(node.outputs[0], mask)
        _remove_unused(model, node)
    return len(repeated)


def _shape_of_mask(node: ir.Node) -> tuple[str, ...] | None:
    if node.op_type != "Expand" or node.domain or node.inputs[0] is None:
        return None
    filled, shape = node.inputs[0].const_value, node.outputs[0].shape
    if filled is None or filled.dtype != ir.DataType.BOOL or filled.size != 1 or not filled.numpy().all():
        return None
    # An axis without a name may be another number each time.
    is_known = shape is not None and all(isinstance(axis, int) or axis.value for axis in shape)
    return tuple(str(axis) for axis in shape) if is_known and shape is not None else None


def _remove_unused(model: ir.Model, node: ir.Node) -> None:
    """The node and what only it read; none of them is an output of the graph."""
    if any(list(output.uses()) or output.is_graph_output() for output in node.outputs):
        return
    before = [value.producer() for value in node.inputs if value is not None]
    model.graph.remove(node, safe=True)
    for source in dict.fromkeys(before):
        if source is not None and source.graph is model.graph:
            _remove_unused(model, source)
