"""Single-node ONNX models of the operator, sessions that run them, and random inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.support.kernels.reference import Attributes

INPUTS = {
    "query": (TensorProto.FLOAT, 3),
    "key": (TensorProto.FLOAT, 3),
    "value": (TensorProto.FLOAT, 3),
    "block_scores": (TensorProto.FLOAT, 4),
    "top_p": (TensorProto.FLOAT, 1),
    "max_blocks": (TensorProto.INT64, 1),
    "key_mask": (TensorProto.BOOL, 2),
}
Feeds = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Shape:
    """B batch, N query tokens, M key tokens, H heads, G key/value heads, D and V head sizes."""

    n: int
    m: int
    h: int = 2
    g: int = 2
    d: int = 16
    v: int = 16
    b: int = 1


def make_model(
    attributes: dict[str, object], with_selection: bool = True, *, ranked: bool = True
) -> onnx.ModelProto:
    """A model of one `edgesparse::SparseAttention` node; attributes may be hostile.

    Without `ranked` the inputs have no shape at all, so that the kernel itself meets a wrong rank.
    """
    outputs = ["output", "selection"] if with_selection else ["output"]
    node = helper.make_node("SparseAttention", list(INPUTS), outputs, domain="edgesparse", **attributes)  # type: ignore[arg-type]
    inputs = [
        helper.make_tensor_value_info(name, kind, [None] * rank if ranked else None)
        for name, (kind, rank) in INPUTS.items()
    ]
    results = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    if with_selection:
        results.append(helper.make_tensor_value_info("selection", TensorProto.BOOL, None))
    graph = helper.make_graph([node], "attention", inputs, results)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgesparse", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def open_session(
    library: str | Path | None, model: onnx.ModelProto, threads: int = 1, *, arena: bool = True
) -> onnxruntime.InferenceSession:
    """A session with the library registered; without `arena` every array is memory fresh from the system."""
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = arena
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_kernel(
    library: str | Path, attributes: Attributes, feeds: Feeds, threads: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The kernel's output and selection."""
    session = open_session(library, make_model(asdict(attributes)), threads)
    output, selection = session.run(None, feeds)
    return output, selection


def make_feeds(
    shape: Shape,
    block_size: int,
    *,
    seed: int = 0,
    top_p: float = 0.5,
    max_blocks: int = 4,
    masked: float = 0.0,
    spread: float = 1.0,
) -> Feeds:
    """Random inputs; `masked` is the share of key tokens that are padding."""
    draw = np.random.default_rng(seed)
    s = shape

    def normal(*size: int) -> NDArray[np.float32]:
        return draw.standard_normal(size).astype(np.float32)

    query_blocks, key_blocks = -(-s.n // block_size), -(-s.m // block_size)
    return {
        "query": normal(s.b, s.n, s.h * s.d) * np.float32(spread),
        "key": normal(s.b, s.m, s.g * s.d),
        "value": normal(s.b, s.m, s.g * s.v),
        "block_scores": normal(s.b, s.h, query_blocks, key_blocks),
        "top_p": np.array([top_p], dtype=np.float32),
        "max_blocks": np.array([max_blocks], dtype=np.int64),
        "key_mask": draw.random((s.b, s.m)) >= masked,
    }
