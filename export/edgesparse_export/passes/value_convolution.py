"""Turns the exported depthwise convolution over values into one node, `edgesparse::ValueConvolution`.

The exporter emits two transposed copies, a padded one and an addition around a convolution; token-major it is
one pass. A convolution is left alone unless

1. it is depthwise, one-dimensional, of stride and dilation 1 and without bias,
2. its input is a transposed [B, N, C] tensor (zero padding in between is absorbed), and
3. its output is transposed back, used once, and added to a tensor of the same shape.
"""

from __future__ import annotations

import onnx_ir as ir

from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.passes.match import only_user

_TURN = (0, 2, 1)


def fuse_value_convolutions(model: ir.Model) -> int:
    """Replaces every match in place; returns how many there were."""
    found = [match for node in model.graph if (match := _match(node)) is not None]
    for add, conv, mixed, value in found:
        _replace(model, add, conv, mixed, value)
    return len(found)


def _match(conv: ir.Node) -> tuple[ir.Node, ir.Node, ir.Value, ir.Value] | None:
    if conv.op_type != "Conv" or conv.domain or len(conv.inputs) != 2:
        return None
    weight = conv.inputs[1]
    if weight is None or weight.const_value is None or weight.const_value.shape.rank() != 3:
        return None
    channels, one, taps = weight.const_value.shape.numpy()
    ints = {
        name: list(conv.attributes[name].as_ints())
        for name in ("pads", "strides", "dilations")
        if name in conv.attributes
    }
    is_plain = ints.get("strides", [1]) == [1] and ints.get("dilations", [1]) == [1]
    group = conv.attributes["group"].as_int() if "group" in conv.attributes else 1
    if not is_plain or one != 1 or group != channels or channels == 1:
        return None
    pads = ints.get("pads", [0, 0])
    back = only_user(conv.outputs[0])
    turned = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    if sum(pads) != taps - 1 or not _is_turn(back) or not _is_turn(turned):
        return None
    assert back is not None and turned is not None
    add = only_user(back.outputs[0])
    if add is None or add.op_type != "Add" or add.domain:
        return None
    mixed = add.inputs[1] if add.inputs[0] is back.outputs[0] else add.inputs[0]
    value = turned.inputs[0]
    if mixed is None or value is None or not _same_shape(mixed, value):
        return None
    return add, conv, mixed, value


def _replace(model: ir.Model, add: ir.Node, conv: ir.Node, mixed: ir.Value, value: ir.Value) -> None:
    weight = conv.inputs[1]
    assert weight is not None and weight.const_value is not None
    kernel = weight.const_value.numpy()[:, 0].T.copy()
    name = f"{add.outputs[0].name}.taps"
    taps = ir.Value(name=name, const_value=ir.tensor(kernel, name=name))
    model.graph.register_initializer(taps)
    pads = list(conv.attributes["pads"].as_ints()) if "pads" in conv.attributes else [0, 0]
    node = ir.node(
        "ValueConvolution",
        [mixed, value, taps],
        {"before": pads[0], "width": kernel.shape[1]},
        domain=DOMAIN,
        version=VERSION,
        name=f"{add.name}.value_convolution",
    )
    output = node.outputs[0]
    output.name, output.shape, output.type = add.outputs[0].name, add.outputs[0].shape, add.outputs[0].type
    back = only_user(conv.outputs[0])
    turned = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    assert back is not None and turned is not None
    ir.convenience.replace_nodes_and_values(
        model.graph, add, [add, back, conv], [node], [add.outputs[0]], [output]
    )
    if not list(turned.outputs[0].uses()):
        model.graph.remove(turned, safe=True)


def _is_turn(node: ir.Node | None) -> bool:
    return (
        node is not None and node.op_type == "Transpose" and tuple(node.attributes["perm"].as_ints()) == _TURN
    )


def _same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Same rank and last axis; the axes before are batch and tokens of one attention layer."""
    if a.shape is None or b.shape is None:
        return False
    return len(a.shape) == len(b.shape) == 3 and str(a.shape[2]) == str(b.shape[2])
