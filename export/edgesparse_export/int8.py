"""int8 linear layers in our operators or in onnxruntime's (dynamic, or static with calibration data), int8
attention in our kernel.

Products with a constant two-dimensional weight are quantized: projections and feed-forward layers. Attention
scales its bytes as it runs, so its nodes only ask the kernel for int8; a function body goes on in float32.
The router stays in float32 because it decides which blocks are seen.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from edgesparse_export.function_body import DOMAIN
from edgesparse_export.linear_layers import use_native_linear

# A matrix with fewer weights is not worth the conversion of its input.
LEAST_WEIGHTS = 4096
Method = Literal["minmax", "entropy", "percentile"]
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


def linear_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the matrix products with a constant 2-d float weight."""
    weights = {
        i.name for i in model.graph.initializer if len(i.dims) == 2 and i.data_type == onnx.TensorProto.FLOAT
    }
    return [n.name for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in weights]


def _weight_sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Weights of each linear node."""
    sizes = {i.name: int(np.prod(i.dims)) for i in model.graph.initializer}
    return {n.name: sizes[n.input[1]] for n in model.graph.node if n.name in set(linear_nodes(model))}


def attention_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the sparse attention nodes."""
    return [n.name for n in model.graph.node if n.domain == DOMAIN and n.op_type == "SparseAttention"]


def quantize_natively(
    model: onnx.ModelProto, *, per_channel: bool = True, nodes_to_exclude: Iterable[str] = ()
) -> onnx.ModelProto:
    """int8 weights in our own operators, and int8 attention; rows are scaled at run time.

    A matrix that ours cannot take and that is large enough to gain is left to onnxruntime's operators.
    """
    excluded = set(nodes_to_exclude)
    nodes = [name for name in linear_nodes(model) if name not in excluded]
    converted, taken = use_native_linear(model, nodes, per_channel=per_channel)
    sizes = _weight_sizes(converted)
    kept = {name for name in linear_nodes(converted) if sizes[name] < LEAST_WEIGHTS}
    if set(nodes) - set(taken) - kept:
        return quantize_dynamically(converted, per_channel=per_channel, nodes_to_exclude=excluded | kept)
    return _with_int8_attention(converted, excluded)


def quantize_dynamically(
    model: onnx.ModelProto, *, per_channel: bool = True, nodes_to_exclude: Iterable[str] = ()
) -> onnx.ModelProto:
    """int8 weights in onnxruntime's operators, and int8 attention; tensors are scaled at run time."""
    excluded = set(nodes_to_exclude)
    nodes = [name for name in linear_nodes(model) if name not in excluded]
    with _target() as path:
        quantize_dynamic(
            _copy(model), path, nodes_to_quantize=nodes, per_channel=per_channel, weight_type=QuantType.QInt8
        )
        return _with_int8_attention(onnx.load(path), excluded)


def quantize_statically(
    model: onnx.ModelProto,
    windows: npt.NDArray[np.float32],
    *,
    method: Method = "minmax",
    per_channel: bool = True,
    nodes_to_exclude: Iterable[str] = (),
) -> onnx.ModelProto:
    """int8 weights, activations and attention, with the ranges seen on `windows` [n, channels, time]."""
    excluded = set(nodes_to_exclude)
    nodes = [name for name in linear_nodes(model) if name not in excluded]
    with _target() as path:
        quantize_static(
            _copy(model),
            path,
            _Windows(windows),
            quant_format=QuantFormat.QDQ,
            # Ranges are taken of these operators' tensors only: elsewhere masks put infinities.
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=nodes,
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            # Unsigned with signed weights is what onnxruntime has kernels for on x86 and on Arm.
            activation_type=QuantType.QUInt8,
            calibrate_method=_METHODS[method],
        )
        return _with_int8_attention(onnx.load(path), excluded)


def _with_int8_attention(model: onnx.ModelProto, excluded: set[str]) -> onnx.ModelProto:
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type == "SparseAttention" and node.name not in excluded:
            for attribute in node.attribute:
                if attribute.name == "precision":
                    attribute.s = b"int8"
    return model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    # The quantizer works in place.
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


class _Windows(CalibrationDataReader):  # type: ignore[misc]
    """One window at a time, so memory does not grow with the calibration set."""

    def __init__(self, windows: npt.NDArray[np.float32]) -> None:
        self._windows = iter(windows)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        window = next(self._windows, None)
        return None if window is None else {"window": window[None]}


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
