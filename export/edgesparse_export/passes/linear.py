"""Linear layers with what stands around them as one node of ours, `edgesparse::Linear` or `LinearSplit`.

onnxruntime's quantized products scale a whole tensor at once, and leave normalization, bias, GELU and the
residual to passes of their own. Ours takes

1. a product with a constant matrix [K, C], K and C multiples of 16 (others are too narrow to gain),
2. the layer normalization before it, where nothing else reads that,
3. the bias after it,
4. and then either the GELU, or the residual of the same shape, or a split into three equal parts,

quantizes each row of the input by itself, and multiplies bytes exactly: the same bits on every instruction
set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgesparse_export.functions.attach import attach_bodies
from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.passes.gelu import gelu_of
from edgesparse_export.passes.match import constant_of, integer, number, only_user, other_input

# Columns of a packed panel, and what rows and columns must be multiples of.
PANEL = 16
FloatArray = npt.NDArray[np.float32]


@dataclass
class _Layer:
    """One product and what is taken along: `first` to `end` are replaced by one node."""

    name: str
    x: ir.Value
    matrix: FloatArray
    bias: FloatArray
    end: ir.Node
    taken: list[ir.Node]
    gain: FloatArray | None = None
    shift: FloatArray | None = None
    epsilon: float = 0.0
    gelu: bool = False
    residual: ir.Value | None = None
    outputs: list[ir.Value] = field(default_factory=list)


def use_native_linear(
    model: onnx.ModelProto, names: Iterable[str], *, per_channel: bool = True
) -> tuple[onnx.ModelProto, list[str]]:
    """Replaces the products of these names where ours can do them.

    Returns:
        The model with bodies for what was added, and the names that were replaced, in the graph's order.
    """
    wanted = set(names)
    converted = ir.serde.deserialize_model(model)
    replaced = []
    for node in list(converted.graph):
        if node.name in wanted and (layer := _match(node)) is not None:
            node = _replace(converted, layer, per_channel=per_channel)
            _join_bank(converted, node)
            _join_feed_forward(converted, node)
            replaced.append(layer.name)
    attach_bodies(converted)
    return ir.serde.serialize_model(converted), replaced


def pack_weight(matrix: FloatArray, *, per_channel: bool = True) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """A matrix [K, C] as bytes from -127 to 127 [C / 16, K / 4, 16, 4], and a scale for each column [C]."""
    depth, columns = matrix.shape
    largest = np.abs(matrix).max(axis=0) if per_channel else np.full(columns, np.abs(matrix).max())
    scale = np.maximum(largest / 127.0, 1e-30).astype(np.float32)
    whole = np.rint(matrix / scale).clip(-127, 127).astype(np.int8)
    panels = whole.reshape(depth // 4, 4, columns // PANEL, PANEL).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(panels), scale


def _match(node: ir.Node) -> _Layer | None:
    if node.op_type not in ("MatMul", "Gemm") or node.domain or node.name is None:
        return None
    x, matrix = node.inputs[0], constant_of(node.inputs[1])
    if x is None or matrix is None or matrix.ndim != 2 or x.shape is None or len(x.shape) not in (2, 3):
        return None
    bias = None
    if node.op_type == "Gemm":
        if (
            number(node, "alpha", 1.0) != 1.0
            or number(node, "beta", 1.0) != 1.0
            or integer(node, "transA", 0)
        ):
            return None
        matrix = matrix.T if integer(node, "transB", 0) else matrix
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = constant_of(node.inputs[2])
            if bias is None or bias.shape != (matrix.shape[1],):
                return None
    if matrix.shape[0] % PANEL or matrix.shape[1] % PANEL:
        return None
    layer = _Layer(node.name, x, matrix, np.zeros(matrix.shape[1], np.float32), node, [node])
    if bias is not None:
        layer.bias = bias
    else:
        _take_bias(layer)
    _take_gelu(layer)
    if not layer.gelu:
        _take_residual(layer)
    if not layer.gelu and layer.residual is None:
        _take_split(layer)
    if not layer.outputs:
        layer.outputs = [layer.end.outputs[0]]
    _take_norm(layer)
    return layer


def _take_bias(layer: _Layer) -> None:
    add = only_user(layer.end.outputs[0])
    if add is None or add.op_type != "Add":
        return
    bias = constant_of(other_input(add, layer.end.outputs[0]))
    if bias is not None and bias.shape == layer.bias.shape:
        layer.bias, layer.end = bias, add
        layer.taken.append(add)


def _take_gelu(layer: _Layer) -> None:
    h = layer.end.outputs[0]
    chain = gelu_of(h)
    if not chain or len(list(h.uses())) != 2 or h.is_graph_output():
        return
    layer.gelu, layer.end = True, chain[-1]
    layer.taken += chain


def _take_residual(layer: _Layer) -> None:
    out = layer.end.outputs[0]
    add = only_user(out)
    if add is None or add.op_type != "Add":
        return
    other = other_input(add, out)
    if other is None or constant_of(other) is not None or other.shape is None or out.shape is None:
        return
    if [str(d) for d in other.shape] == [str(d) for d in out.shape] and "None" not in str(out.shape):
        layer.residual, layer.end = other, add
        layer.taken.append(add)


def _take_split(layer: _Layer) -> None:
    split = only_user(layer.end.outputs[0])
    if split is None or split.op_type != "Split" or len(split.outputs) != 3:
        return
    columns = layer.matrix.shape[1]
    rank = len(layer.x.shape or ())
    sizes = constant_of(split.inputs[1]) if len(split.inputs) > 1 else None
    equal = sizes is None or len(set(sizes.tolist())) == 1
    if equal and columns % (3 * PANEL) == 0 and integer(split, "axis", 0) in (-1, rank - 1):
        layer.outputs, layer.end = list(split.outputs), split
        layer.taken.append(split)


def _take_norm(layer: _Layer) -> None:
    norm = layer.x.producer()
    if norm is None or norm.op_type != "LayerNormalization" or norm.domain or len(layer.x.uses()) != 1:
        return
    rank = len(layer.x.shape or ())
    gain = constant_of(norm.inputs[1])
    shift = constant_of(norm.inputs[2]) if len(norm.inputs) > 2 else None
    if (
        gain is None
        or gain.shape != (layer.matrix.shape[0],)
        or integer(norm, "axis", -1) not in (-1, rank - 1)
    ):
        return
    if len(norm.outputs) > 1 or layer.x.is_graph_output() or norm.inputs[0] is None:
        return
    layer.gain = gain
    layer.shift = np.zeros_like(gain) if shift is None else shift
    layer.epsilon = number(norm, "epsilon", 1e-5)
    layer.x = norm.inputs[0]
    layer.taken.insert(0, norm)


def _replace(model: ir.Model, layer: _Layer, *, per_channel: bool) -> ir.Node:
    weight, scale = pack_weight(layer.matrix, per_channel=per_channel)
    depth = layer.matrix.shape[0]
    normalize = layer.gain is not None
    gain = layer.gain if layer.gain is not None else np.ones(depth, np.float32)
    shift = layer.shift if layer.shift is not None else np.zeros(depth, np.float32)

    def constant(part: str, array: npt.NDArray[np.generic]) -> ir.Value:
        name = f"{layer.name}.{part}"
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        model.graph.register_initializer(value)
        return value

    residual = layer.residual
    node = ir.node(
        "LinearSplit" if len(layer.outputs) == 3 else "Linear",
        [
            layer.x,
            constant("weight", weight),
            constant("scale", scale),
            constant("bias", layer.bias.astype(np.float32)),
            constant("gain", gain.astype(np.float32)),
            constant("shift", shift.astype(np.float32)),
            residual if residual is not None else constant("none", np.zeros(1, np.float32)),
        ],
        {"normalize": int(normalize), "epsilon": float(layer.epsilon), "gelu": int(layer.gelu)},
        num_outputs=len(layer.outputs),
        domain=DOMAIN,
        version=VERSION,
        name=layer.name,
    )
    for new, old in zip(node.outputs, layer.outputs, strict=True):
        new.name, new.shape, new.type = old.name, old.shape, old.type
    ir.convenience.replace_nodes_and_values(
        model.graph, layer.end, layer.taken[::-1], [node], layer.outputs, list(node.outputs)
    )
    return node


def _join_feed_forward(model: ir.Model, down: ir.Node) -> None:
    """Two layers with a GELU between become one node: what lies between them is never stored."""
    between = down.inputs[0]
    up = None if between is None else between.producer()
    if up is None or up.domain != DOMAIN or up.op_type != "Linear" or only_user(up.outputs[0]) is not down:
        return
    takes = integer(up, "normalize", 0) and integer(up, "gelu", 0) and constant_of(up.inputs[6]) is not None
    plain = not any(integer(down, name, 0) for name in ("normalize", "gelu")) and down.op_type == "Linear"
    x, residual = up.inputs[0], down.inputs[6]
    if not takes or not plain or x is None or x.shape is None or len(x.shape) != 3:
        return
    if residual is None or constant_of(residual) is not None:
        return
    node = ir.node(
        "FeedForward",
        [*up.inputs[:6], *down.inputs[1:4], residual],
        {"epsilon": up.attributes["epsilon"]},
        domain=DOMAIN,
        version=VERSION,
        name=down.name,
    )
    new, old = node.outputs[0], down.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    ir.convenience.replace_nodes_and_values(model.graph, down, [down, up], [node], [old], [new])


def _join_bank(model: ir.Model, linear: ir.Node) -> None:
    """A plain product of the stem's features is done in the stem's node: the features are never stored."""
    features = linear.inputs[0]
    bank = None if features is None else features.producer()
    plain = not any(integer(linear, name, 0) for name in ("normalize", "gelu")) and len(linear.outputs) == 1
    none = constant_of(linear.inputs[6])
    if bank is None or bank.domain != DOMAIN or bank.op_type != "FilterBank" or not plain or none is None:
        return
    if only_user(bank.outputs[0]) is not linear:
        return
    node = ir.node(
        "FilterBankLinear",
        [*bank.inputs, *linear.inputs[1:4]],
        {name: bank.attributes[name] for name in ("dilations", "patch", "before")},
        domain=DOMAIN,
        version=VERSION,
        name=linear.name,
    )
    new, old = node.outputs[0], linear.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    ir.convenience.replace_nodes_and_values(model.graph, linear, [linear, bank], [node], [old], [new])
