"""A mixed fleet: which weights cannot saturate on any of the target instruction sets.

onnxruntime multiplies unsigned bytes by signed ones. Without VNNI, x86 adds two such products in 16 bits
(`vpmaddubsw`), which saturate: 255 * 127 * 2 is more than 32,767. The same file then gives other results on
another CPU. With 7-bit weights the sum of two products is at most 255 * 64 * 2 = 32,640 and fits. Our own
kernels widen before they add and need no such limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgesparse_runtime.errors import InputError


@dataclass(frozen=True)
class Target:
    """How onnxruntime multiplies bytes there: `saturates` = sums of two products in 16 bits."""

    name: str
    saturates: bool


TARGETS = {
    t.name: t
    for t in (
        Target("avx2", True),
        Target("avx512", True),
        Target("avx_vnni", False),
        Target("avx512_vnni", False),
        Target("arm64", False),
    )
}
# What a fleet of unknown machines may hold.
EVERY_KIND = ("avx2", "avx512_vnni", "arm64")
LARGEST_SUM = 32767


def parse_targets(text: str) -> tuple[str, ...]:
    """`avx2,arm64` as names.

    Raises:
        InputError: an unknown name.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in names if name not in TARGETS]
    if unknown or not names:
        raise InputError(
            f"`--targets` must be some of {', '.join(TARGETS)}; got {', '.join(unknown) or 'nothing'}."
        )
    return names


def needs_seven_bits(targets: Iterable[str]) -> bool:
    """Whether weights of onnxruntime's operators must stay within 7 bits for these targets."""
    return any(TARGETS[name].saturates for name in targets)


def can_saturate(weight: npt.NDArray[np.int8]) -> bool:
    """Whether some unsigned input makes a 16-bit sum of two products saturate, for a matrix [K, C].

    Which two rows are added depends on the kernel, so the two largest of one sign in a column count.
    """
    wide = np.sort(weight.astype(np.int64), axis=0)
    if wide.shape[0] < 2:
        return False
    most = wide[-2:].clip(min=0).sum(axis=0).max()
    least = wide[:2].clip(max=0).sum(axis=0).min()
    return bool(255 * most > LARGEST_SUM or 255 * least < -LARGEST_SUM - 1)


def multiply_without_vnni(
    inputs: npt.NDArray[np.uint8], weight: npt.NDArray[np.int8]
) -> npt.NDArray[np.int32]:
    """The result of [N, K] times [K, C] by `vpmaddubsw`: neighbors are added in saturating 16 bits."""
    wide = inputs.astype(np.int32), weight.astype(np.int32)
    total = np.zeros((inputs.shape[0], weight.shape[1]), np.int32)
    for k in range(0, weight.shape[0], 2):
        pair = wide[0][:, k : k + 2] @ wide[1][k : k + 2]
        total += pair.clip(-LARGEST_SUM - 1, LARGEST_SUM)
    return total


def saturating_nodes(model: onnx.ModelProto, targets: Sequence[str]) -> list[str]:
    """onnxruntime's products that could saturate on one of the targets; ours never do."""
    if not needs_seven_bits(targets):
        return []
    weights = {i.name: i for i in model.graph.initializer if i.data_type == onnx.TensorProto.INT8}
    sources = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm", "DynamicQuantizeMatMul"):
            continue
        for name in node.input:
            source = sources.get(name)
            if source is not None and source.op_type == "DequantizeLinear":
                name = source.input[0]
            if name in weights:
                array = numpy_helper.to_array(weights[name])
                if array.ndim == 2 and can_saturate(array):
                    found.append(node.name)
    return found
