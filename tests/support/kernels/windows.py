"""Calls of `edgesparse::WindowAttention`: cases, inputs, models and the float64 reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgesparse.attention.attributes import WindowAttributes
from edgesparse.attention.window_reference import window_attention
from edgesparse_export.functions.window_attention import window_body
from tests.support.kernels.models import Feeds, open_session

INPUTS = {
    "query": (TensorProto.FLOAT, 3),
    "key": (TensorProto.FLOAT, 3),
    "value": (TensorProto.FLOAT, 3),
    "key_mask": (TensorProto.BOOL, 2),
    "starts": (TensorProto.INT64, 1),
}


@dataclass(frozen=True)
class WindowCase:
    """One call: `n` tokens, windows, where texts start, heads and head sizes, share of padding."""

    name: str
    n: int
    left: int = -1
    right: int = -1
    starts: tuple[int, ...] = (0,)
    h: int = 2
    g: int = 2
    d: int = 16
    v: int = 16
    b: int = 1
    masked: float = 0.0
    seed: int = 0
    spread: float = 1.0

    def node(self) -> WindowAttributes:
        """The node's attributes."""
        return WindowAttributes(self.h, self.g, self.d**-0.5, self.left, self.right)

    def feeds(self) -> Feeds:
        """The inputs."""
        draw = np.random.default_rng(self.seed)

        def normal(width: int) -> NDArray[np.float32]:
            return draw.standard_normal((self.b, self.n, width)).astype(np.float32)

        return {
            "query": normal(self.h * self.d) * np.float32(self.spread),
            "key": normal(self.g * self.d),
            "value": normal(self.g * self.v),
            "key_mask": draw.random((self.b, self.n)) >= self.masked,
            "starts": np.array(self.starts, dtype=np.int64),
        }

    def expected(self) -> NDArray[np.float64]:
        """By the reference in float64."""
        return reference(self.node(), self.feeds())


def reference(node: WindowAttributes, feeds: Feeds) -> NDArray[np.float64]:
    """The naive twin, in float64."""
    wide = [torch.from_numpy(feeds[x].astype(np.float64)) for x in ("query", "key", "value")]
    rest = [torch.from_numpy(feeds[x]) for x in ("key_mask", "starts")]
    result: NDArray[np.float64] = window_attention(*wide, *rest, attributes=node).numpy()
    return result


def make_window_model(
    attributes: dict[str, float], *, body: bool = False, ranked: bool = True
) -> onnx.ModelProto:
    """A model of one node, with its function body where wanted; attributes may be hostile."""
    node = helper.make_node("WindowAttention", list(INPUTS), ["output"], domain="edgesparse", **attributes)  # type: ignore[arg-type]
    inputs = [
        helper.make_tensor_value_info(name, kind, [None] * rank if ranked else None)
        for name, (kind, rank) in INPUTS.items()
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "attention", inputs, [output])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgesparse", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if body:
        model.functions.append(onnx_ir.serde.serialize_function(window_body()))
    return model


def run_window(
    library: str | Path | None, case: WindowCase, threads: int = 1, feeds: Feeds | None = None
) -> NDArray[np.float32]:
    """By the kernel, or without a library by the function body."""
    model = make_window_model(case.node().to_node(), body=library is None)
    session = open_session(library, model, threads)
    result: NDArray[np.float32] = session.run(None, case.feeds() if feeds is None else feeds)[0]
    return result


# Texts of 1, 0, 63, 64, 65 and 20 tokens.
UNEVEN = (0, 1, 1, 64, 128, 193, 213)
WINDOW_CASES = [
    WindowCase("nothing", 0, 3, 3),
    WindowCase("one_token", 1, 3, 3),
    *[WindowCase(f"n{n}", n, 5, 9) for n in (2, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 200)],
    *[WindowCase(f"n{n}_causal", n, 20, 0) for n in (1, 16, 17, 63, 64, 65, 131)],
    *[WindowCase(f"window{w}", 150, w, w) for w in (0, 1, 15, 16, 17, 63, 64, 65, 149, 150, 1 << 31)],
    WindowCase("window0_masked", 150, 0, 0, masked=0.5),
    WindowCase("left_only", 150, 7, -1),
    WindowCase("right_only", 150, -1, 7),
    WindowCase("causal", 150, -1, 0),
    WindowCase("all", 150),
    *[WindowCase(f"d{d}", 70, 9, 9, d=d, v=d) for d in (1, 7, 8, 24, 32, 48, 64, 80, 128)],
    *[WindowCase(f"value{v}", 70, 9, 9, v=v) for v in (1, 5, 24, 112)],
    WindowCase("grouped", 131, 20, 20, h=6, g=2),
    WindowCase("one_group", 131, 20, 0, h=4, g=1, b=2),
    WindowCase("masked", 131, 10, 10, b=2, masked=0.5),
    WindowCase("nearly_all_masked", 131, 10, 10, b=2, masked=0.97),
    WindowCase("all_masked", 131, 10, 10, masked=1.0),
    WindowCase("packed", 213, starts=UNEVEN),
    WindowCase("packed_without_start", 213, starts=UNEVEN[1:-1]),
    WindowCase("packed_window", 213, 10, 10, UNEVEN, b=2, masked=0.2),
    WindowCase("packed_causal", 213, -1, 0, UNEVEN, h=4, g=2),
    WindowCase("packed_tokens", 40, starts=tuple(range(41))),
    WindowCase("no_starts", 70, 9, 9, starts=()),
    WindowCase("large_logits", 131, 20, 20, d=64, v=64, spread=30.0),
    WindowCase("wide", 300, 64, 64, h=8, g=8, d=64, v=64),
]


@st.composite
def any_window_case(draw: st.DrawFn, fewest: int = 0) -> WindowCase:
    """Any attributes on at least `fewest` tokens."""

    def integer(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    groups, n = integer(1, 3), integer(fewest, 200)
    return WindowCase(
        "drawn",
        n,
        draw(st.one_of(st.just(-1), st.integers(0, 210))),
        draw(st.one_of(st.just(-1), st.integers(0, 210))),
        tuple(sorted(draw(st.lists(st.integers(0, n), max_size=6)))),
        groups * integer(1, 3),
        groups,
        integer(1, 40),
        integer(1, 40),
        integer(1, 2),
        draw(st.sampled_from([0.0, 0.1, 0.6, 1.0])),
        integer(0, 2**31),
    )
