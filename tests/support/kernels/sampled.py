"""Calls of `edgesparse::SampledScores`: cases, inputs, models and the twin in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesparse.dropin.sampled_router import SampledRouter
from tests.support.kernels.layer_models import Feeds, Node, make_layer_model
from tests.support.kernels.models import open_session


@dataclass(frozen=True)
class SampledCase:
    """One call: `n` tokens in blocks of `block`, of which `queries` are asked; heads, share of padding."""

    name: str
    n: int
    block: int = 16
    queries: int = 2
    h: int = 4
    g: int = 2
    d: int = 16
    b: int = 1
    causal: bool = False
    masked: float = 0.0
    spread: float = 1.0
    seed: int = 0

    def node(self) -> Node:
        """The node with its inputs."""
        attributes: dict[str, object] = {
            "num_heads": self.h,
            "kv_num_heads": self.g,
            "block_size": self.block,
            "queries": self.queries,
            "scale": float(self.d**-0.5),
            "is_causal": int(self.causal),
        }
        return Node(self.name, "SampledScores", attributes, self.feeds())

    def feeds(self) -> Feeds:
        """The inputs."""
        draw = np.random.default_rng(self.seed)

        def normal(width: int) -> NDArray[np.float32]:
            return draw.standard_normal((self.b, self.n, width)).astype(np.float32)

        return {
            "query": normal(self.h * self.d) * np.float32(self.spread),
            "key": normal(self.g * self.d),
            "key_mask": draw.random((self.b, self.n)) >= self.masked,
        }

    def expected(self) -> NDArray[np.float64]:
        """By the router in float64."""
        router = SampledRouter(
            self.h, self.g, self.block, queries=self.queries, scale=self.d**-0.5, is_causal=self.causal
        )
        query, key, mask = (torch.from_numpy(x) for x in self.feeds().values())
        result: NDArray[np.float64] = router(query.double(), key.double(), mask).numpy()
        return result


def run_sampled(
    library: str | Path | None, case: SampledCase, threads: int = 1, feeds: Feeds | None = None
) -> NDArray[np.float32]:
    """By the kernel; such a node has no body of its own."""
    session = open_session(library, make_layer_model(case.node(), with_body=False), threads)
    result: NDArray[np.float32] = session.run(None, case.feeds() if feeds is None else feeds)[0]
    return result


SAMPLED_CASES = [
    *[
        SampledCase(f"n{n}{'_causal' if causal else ''}", n, causal=causal)
        for n in (1, 7, 8, 9, 15, 16, 17, 64, 65, 131, 300)
        for causal in (False, True)
    ],
    *[SampledCase(f"block{x}", 131, x, queries=1, causal=True) for x in (1, 2, 3, 8, 12, 20, 64, 200, 1000)],
    *[SampledCase(f"queries{x}", 131, 32, queries=x, causal=True) for x in (1, 3, 5, 32)],
    SampledCase("more_queries_than_rows", 300, 128, queries=100, causal=True),
    *[SampledCase(f"d{d}", 70, d=d) for d in (1, 7, 8, 24, 64, 80)],
    SampledCase("one_group", 131, h=6, g=1, b=2, causal=True),
    SampledCase("masked", 131, b=2, masked=0.5),
    SampledCase("masked_causal", 131, b=3, masked=0.5, causal=True),
    SampledCase("nearly_all_masked", 131, b=3, masked=0.97, causal=True),
    SampledCase("all_masked", 131, masked=1.0),
    SampledCase("large_logits", 200, 32, queries=4, d=64, spread=30.0, causal=True),
    SampledCase("prompt", 700, 32, queries=4, h=6, g=2, d=64, causal=True),
]


@st.composite
def any_sampled_case(draw: st.DrawFn) -> SampledCase:
    """Any attributes."""

    def integer(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    groups, block = integer(1, 3), integer(1, 70)
    return SampledCase(
        "drawn",
        integer(1, 200),
        block,
        integer(1, block),
        groups * integer(1, 3),
        groups,
        integer(1, 40),
        integer(1, 2),
        draw(st.booleans()),
        draw(st.sampled_from([0.0, 0.1, 0.6, 1.0])),
        seed=integer(0, 2**31),
    )
