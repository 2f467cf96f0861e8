"""Single-node models of the operators around attention with their function bodies, and random inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgesparse_export.functions.attach import with_bodies
from edgesparse_export.passes.linear import pack_weight
from tests.support.kernels.models import open_session

Feeds = dict[str, NDArray[np.generic]]
_KINDS = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "bool": TensorProto.BOOL}


@dataclass(frozen=True)
class Node:
    """One node: its operator, attributes and inputs."""

    name: str
    op_type: str
    attributes: dict[str, object]
    feeds: Feeds
    outputs: int = 1


def make_layer_model(node: Node, *, with_body: bool = True, ranked: bool = True) -> onnx.ModelProto:
    """A model of the node; without `ranked` the inputs have no shape, and the kernel meets a wrong rank."""
    outputs = [f"output.{i}" for i in range(node.outputs)]
    proto = helper.make_node(node.op_type, list(node.feeds), outputs, domain="edgesparse", **node.attributes)  # type: ignore[arg-type]
    inputs = [
        helper.make_tensor_value_info(name, _KINDS[str(array.dtype)], [None] * array.ndim if ranked else None)
        for name, array in node.feeds.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([proto], "layer", inputs, results)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("edgesparse", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return with_bodies(model) if with_body else model


def run_layer(library: str | Path | None, node: Node, threads: int = 1) -> NDArray[np.float32]:
    """The outputs side by side; without a library the function body runs."""
    session: onnxruntime.InferenceSession = open_session(library, make_layer_model(node), threads)
    return np.concatenate(session.run(None, node.feeds), axis=-1)


def linear(
    rows: int,
    depth: int,
    columns: int,
    *,
    batch: int = 2,
    normalize: int = 0,
    gelu: int = 0,
    residual: bool = False,
    parts: int = 1,
    spread: float = 1.0,
    seed: int = 0,
) -> Node:
    """`Linear`, or `LinearSplit` with three parts."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return draw.standard_normal(shape).astype(np.float32)

    weight, scale = pack_weight(normal(depth, columns) / np.float32(np.sqrt(depth)))
    feeds: Feeds = {
        "x": normal(batch, rows, depth) * np.float32(spread) + np.float32(0.3),
        "weight": weight,
        "scale": scale,
        "bias": normal(columns),
        "gain": 1 + normal(depth) / 5,
        "shift": normal(depth) / 5,
        "residual": normal(batch, rows, columns) if residual else np.zeros(1, np.float32),
    }
    attributes: dict[str, object] = {"normalize": normalize, "epsilon": 1e-5, "gelu": gelu}
    name = f"linear {rows} {depth} {columns} {normalize}{gelu}{int(residual)} x{spread:g}"
    return Node(name, "Linear" if parts == 1 else "LinearSplit", attributes, feeds, parts)


def filter_bank(
    steps: int,
    *,
    channels: int = 1,
    filters: int = 28,
    thresholds: int = 4,
    patch: int = 4,
    dilations: tuple[int, ...] = (1, 4),
    padded: int = 0,
    causal: bool = False,
    seed: int = 0,
) -> Node:
    """`FilterBank`; the last `padded` steps of the second window are not real."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return draw.standard_normal(shape).astype(np.float32)

    real = np.ones((2, steps), bool)
    real[1, steps - padded :] = False
    features = len(dilations) * filters * thresholds
    feeds: Feeds = {
        "window": np.where(real[:, None], normal(2, channels, steps), np.float32(0)),
        "real": real,
        "weight": normal(len(dilations), filters, channels, 9),
        "slope": 1 + np.abs(normal(len(dilations), filters)),
        "offset": normal(len(dilations), filters, thresholds),
        "center": normal(features),
        "spread": 0.5 + np.abs(normal(features)),
    }
    attributes: dict[str, object] = {
        "dilations": list(dilations),
        "patch": patch,
        "before": 8 if causal else 4,
    }
    return Node(f"bank {steps} {channels} {filters} {thresholds} {patch}", "FilterBank", attributes, feeds)


def competing_filters(
    steps: int,
    *,
    channels: int = 1,
    groups: int = 16,
    dilations: tuple[int, ...] = (1, 4),
    padded: int = 0,
    seed: int = 0,
) -> Node:
    """`CompetingFilters`; the last `padded` steps of the second window are not real."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return draw.standard_normal(shape).astype(np.float32)

    real = np.ones((2, steps), bool)
    real[1, steps - padded :] = False
    feeds: Feeds = {
        "window": np.where(real[:, None], normal(2, channels, steps), np.float32(0)),
        "real": real,
        "weight": normal(len(dilations), groups * 8, channels, 9),
        "sharpness": 0.5 + np.abs(normal(len(dilations), groups)),
    }
    return Node(
        f"compete {steps} {channels} {groups}", "CompetingFilters", {"dilations": list(dilations)}, feeds
    )


def block_scores(
    tokens: int,
    block_size: int,
    *,
    heads: int = 4,
    groups: int = 4,
    size: int = 16,
    rank: int = 16,
    masked: float = 0.0,
    causal: int = 0,
    seed: int = 0,
) -> Node:
    """`BlockScores`; `masked` is the share of tokens that are padding."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return draw.standard_normal(shape).astype(np.float32)

    feeds: Feeds = {
        "query": normal(2, tokens, heads * size),
        "key": normal(2, tokens, groups * size),
        "query_weight": normal(heads, size, rank) / 4,
        "key_weight": normal(groups, 3 * size, rank) / 4,
        "key_mask": draw.random((2, tokens)) >= masked,
    }
    attributes: dict[str, object] = {
        "num_heads": heads,
        "kv_num_heads": groups,
        "block_size": block_size,
        "is_causal": causal,
    }
    return Node(f"scores {tokens} {block_size} {size} {causal}", "BlockScores", attributes, feeds)


def value_convolution(tokens: int, width: int, *, taps: int = 5, before: int = 2, seed: int = 0) -> Node:
    """`ValueConvolution`."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return draw.standard_normal(shape).astype(np.float32)

    feeds: Feeds = {
        "mixed": normal(2, tokens, width),
        "value": normal(2, tokens, width),
        "weight": normal(taps, width),
    }
    attributes: dict[str, object] = {"before": before, "width": width}
    return Node(f"convolution {tokens} {width} {taps}", "ValueConvolution", attributes, feeds)


def feed_forward(rows: int, width: int, inner: int, *, seed: int = 0) -> Node:
    """`FeedForward`."""
    up, down = linear(rows, width, inner, seed=seed), linear(rows, inner, width, residual=True, seed=seed + 1)
    feeds: Feeds = {
        "x": up.feeds["x"],
        "up": up.feeds["weight"],
        "up_scale": up.feeds["scale"],
        "up_bias": up.feeds["bias"],
        "gain": up.feeds["gain"],
        "shift": up.feeds["shift"],
        "down": down.feeds["weight"],
        "down_scale": down.feeds["scale"],
        "down_bias": down.feeds["bias"],
        "residual": down.feeds["residual"],
    }
    return Node(f"feed forward {rows} {width} {inner}", "FeedForward", {"epsilon": 1e-5}, feeds)


def filter_bank_linear(bank: Node, columns: int) -> Node:
    """`FilterBankLinear`: the product of the bank's features."""
    product = linear(1, bank.feeds["center"].size, columns)
    feeds = {**bank.feeds, "matrix": product.feeds["weight"]}
    feeds |= {name: product.feeds[name] for name in ("scale", "bias")}
    return Node(f"{bank.name} {columns}", "FilterBankLinear", bank.attributes, feeds)


LINEAR = [
    linear(1, 16, 16),
    linear(63, 128, 384, normalize=1, parts=3),
    linear(64, 64, 48, parts=3),
    linear(65, 128, 256, normalize=1, gelu=1),
    linear(7, 256, 128, residual=True),
    linear(17, 448, 80),
    linear(131, 48, 112, gelu=1, spread=30.0),
    linear(5, 32, 32, spread=0.0),
    feed_forward(1, 16, 16),
    feed_forward(131, 128, 256),
    feed_forward(64, 48, 80),
    filter_bank_linear(filter_bank(203, padded=50), 128),
    filter_bank_linear(filter_bank(2600, filters=4, thresholds=2, causal=True), 48),
]
FLOAT = [
    filter_bank(4),
    filter_bank(203, padded=50),
    filter_bank(130, channels=3, filters=5, thresholds=3, patch=7, dilations=(1, 2, 9)),
    filter_bank(97, filters=17, thresholds=6, patch=1, dilations=(3,), causal=True),
    filter_bank(301, filters=84, patch=8, dilations=(1, 64)),
    block_scores(1, 16),
    block_scores(100, 16, masked=0.3),
    block_scores(64, 4, heads=4, groups=2, size=12, rank=9),
    block_scores(90, 16, causal=1),
    block_scores(70, 32, masked=1.0),
    value_convolution(1, 16),
    value_convolution(130, 40),
    value_convolution(33, 7, taps=3, before=2),
    competing_filters(1),
    competing_filters(203, padded=50),
    competing_filters(97, channels=3, groups=5, dilations=(1, 2, 9)),
    competing_filters(300, groups=33, dilations=(64,), padded=300),
    competing_filters(2600, groups=2, dilations=(1, 1000)),
]
