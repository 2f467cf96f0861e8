"""int8 linear layers in our operators or in onnxruntime's, and int8 attention in our kernel.

Products with a constant two-dimensional weight are quantized: projections and feed-forward layers. Attention
scales its bytes at run time, so its nodes only select the int8 kernel; a function body computes in float32.
The router stays in float32 because it decides which blocks are attended to.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgesparse_export.functions.domain import DOMAIN
from edgesparse_export.passes.linear import use_native_linear
from edgesparse_export.quantize.ranges import Method, observe_ranges

# A matrix with fewer weights is not worth the conversion of its input.
LEAST_WEIGHTS = 4096


def linear_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the matrix products with a constant 2-d float weight, but for a classifier's head.

    The head runs once per window, and `edgesparse update` fits it anew: it stays in float32. So does what
    only tells unknown windows: its threshold is of exact distances.
    """
    weights = {
        i.name for i in model.graph.initializer if len(i.dims) == 2 and i.data_type == onnx.TensorProto.FLOAT
    }
    kept = {_head(model)} | _only_for_unknown(model)
    return [
        n.name
        for n in model.graph.node
        if n.op_type in ("MatMul", "Gemm") and n.input[1] in weights and n.name not in kept
    ]


def _only_for_unknown(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that the output `unknown` needs and no other output."""
    outputs = {output.name for output in model.graph.output}
    if "unknown" not in outputs:
        return set()
    return _behind(model, {"unknown"}) - _behind(model, outputs - {"unknown"})


def _behind(model: onnx.ModelProto, needed: set[str]) -> set[str]:
    """Names of the nodes that these outputs need."""
    found = set()
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            found.add(node.name)
            needed = needed | set(node.input)
    return found


def _head(model: onnx.ModelProto) -> str | None:
    """Name of the layer that the scores are the softmax of, at a temperature or not."""
    made = {output: node for node in model.graph.node for output in node.output}
    softmax = made.get("scores")
    if softmax is None or softmax.op_type != "Softmax":
        return None
    last = made.get(softmax.input[0])
    if last is not None and last.op_type in ("Div", "Mul"):
        last = made.get(last.input[0])
    return last.name if last is not None and last.op_type == "Gemm" else None


def _weight_sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Weights of each linear node."""
    sizes = {i.name: int(np.prod(i.dims)) for i in model.graph.initializer}
    return {n.name: sizes[n.input[1]] for n in model.graph.node if n.name in set(linear_nodes(model))}


def attention_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the sparse attention nodes."""
    return [n.name for n in model.graph.node if n.domain == DOMAIN and n.op_type == "SparseAttention"]


def quantize_natively(
    model: onnx.ModelProto,
    *,
    per_channel: bool = True,
    seven_bits: bool = False,
    nodes_to_exclude: Iterable[str] = (),
) -> onnx.ModelProto:
    """int8 weights in our own operators, and int8 attention; rows are scaled at run time.

    A matrix that ours cannot take (the head of a forecaster: as many columns as steps ahead) and that is
    large enough to gain is left to onnxruntime's operators.

    Args:
        seven_bits: of those matrices, as in `quantize_dynamically`.
    """
    excluded = set(nodes_to_exclude)
    nodes = [name for name in linear_nodes(model) if name not in excluded]
    converted, taken = use_native_linear(model, nodes, per_channel=per_channel)
    sizes = _weight_sizes(converted)
    kept = {name for name in linear_nodes(converted) if sizes[name] < LEAST_WEIGHTS}
    if set(nodes) - set(taken) - kept:
        converted = quantize_dynamically(
            converted, per_channel=per_channel, seven_bits=seven_bits, nodes_to_exclude=excluded | kept
        )
    _remove_unused_weights(converted)
    return _with_int8_attention(converted, excluded)


def quantize_dynamically(
    model: onnx.ModelProto,
    *,
    per_channel: bool = True,
    seven_bits: bool = False,
    nodes_to_exclude: Iterable[str] = (),
) -> onnx.ModelProto:
    """int8 weights in onnxruntime's operators, and int8 attention; tensors are scaled at run time.

    Args:
        seven_bits: keep weights within 7 bits, for machines whose 16-bit sums saturate (`targets.py`).
    """
    excluded = set(nodes_to_exclude)
    nodes = [name for name in linear_nodes(model) if name not in excluded]
    if not nodes:
        return _with_int8_attention(_copy(model), excluded)
    with _target() as path:
        quantize_dynamic(
            _copy(model),
            path,
            nodes_to_quantize=nodes,
            per_channel=per_channel,
            reduce_range=seven_bits,
            weight_type=QuantType.QInt8,
        )
        return _with_int8_attention(onnx.load(path), excluded)


def quantize_statically(
    model: onnx.ModelProto,
    windows: Iterable[npt.NDArray[np.float32]],
    *,
    method: Method = "minmax",
    per_channel: bool = True,
    seven_bits: bool = False,
    nodes_to_exclude: Iterable[str] = (),
) -> onnx.ModelProto:
    """int8 weights, activations and attention, with the ranges observed on `windows`, each [channels, time].

    Args:
        seven_bits: as in `quantize_dynamically`.
    """
    excluded = set(nodes_to_exclude)
    names = [name for name in linear_nodes(model) if name not in excluded]
    if not names:
        return _with_int8_attention(_copy(model), excluded)
    nodes = [node for node in model.graph.node if node.name in set(names)]
    tensors = [tensor for node in nodes for tensor in (node.input[0], node.output[0])]
    ranges = observe_ranges(model, tensors, windows, method)
    found = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    with _target() as path:
        quantizer = QDQQuantizer(
            _copy(model),
            per_channel,
            seven_bits,
            QuantType.QInt8,
            # Unsigned with signed weights is what onnxruntime has kernels for on x86 and on Arm.
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, found),
            names,
            [],
            ["MatMul", "Gemm"],
            {},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(path), False)
        return _with_int8_attention(onnx.load(path), excluded)


def _with_int8_attention(model: onnx.ModelProto, excluded: set[str]) -> onnx.ModelProto:
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type == "SparseAttention" and node.name not in excluded:
            for attribute in node.attribute:
                if attribute.name == "precision":
                    attribute.s = b"int8"
    return model


def _remove_unused_weights(model: onnx.ModelProto) -> None:
    """Drop the float32 matrices whose int8 copies are read now: they are most of the file."""
    read = {name for node in model.graph.node for name in node.input}
    read |= {output.name for output in model.graph.output} | {i.name for i in model.graph.input}
    for node in model.graph.node:
        for attribute in node.attribute:
            # A subgraph reads names of the graph around it.
            read |= {name for inner in attribute.g.node for name in inner.input}
    held = [weight for weight in model.graph.initializer if weight.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(held)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    # The quantizer works in place.
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


@contextlib.contextmanager
def _target() -> Iterator[Path]:
    """A file to quantize into; the quantizer's advice and the calibrator's output are kept quiet."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            yield Path(folder) / "model.int8.onnx"
    finally:
        root.setLevel(level)
