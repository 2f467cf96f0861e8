"""The table of shapes and attributes that every engine and instruction set must get right."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.support.kernels.models import Feeds, Shape, make_feeds
from tests.support.kernels.reference import Attributes


@dataclass(frozen=True)
class Case:
    """One call of the operator: shape, attributes and how its inputs are drawn."""

    name: str
    shape: Shape
    block_size: int = 16
    attributes: dict[str, int] = field(default_factory=dict)
    draw: dict[str, float] = field(default_factory=dict)

    def node(self, precision: str = "float32") -> Attributes:
        """The node's attributes."""
        return Attributes(
            num_heads=self.shape.h,
            kv_num_heads=self.shape.g,
            block_size=self.block_size,
            scale=self.shape.d**-0.5,
            precision=precision,
            **self.attributes,
        )

    def feeds(self) -> Feeds:
        """The inputs."""
        return make_feeds(self.shape, self.block_size, **self.draw)


def _self(n: int, **sizes: int) -> Shape:
    return Shape(n, n, **sizes)


CASES = [
    Case("no_queries", Shape(0, 33)),
    Case("no_keys", Shape(33, 0)),
    Case("nothing", Shape(0, 0)),
    Case("one_token", _self(1)),
    Case("one_key", Shape(40, 1)),
    *[Case(f"n{n}", _self(n)) for n in (2, 15, 16, 17, 31, 63, 64, 65, 127, 131)],
    *[Case(f"n{n}_causal", _self(n), attributes={"is_causal": 1}) for n in (1, 15, 16, 17, 63, 64, 65, 131)],
    *[Case(f"d{d}", _self(70, d=d, v=d)) for d in (1, 7, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128)],
    *[Case(f"value{v}", _self(70, d=16, v=v)) for v in (1, 5, 24, 48, 112, 160)],
    *[Case(f"block{s}", _self(150), s) for s in (1, 3, 16, 20, 32, 64, 100, 128, 1000)],
    *[Case(f"block{s}_causal", _self(150), s, {"is_causal": 1}) for s in (1, 20, 64, 100, 128, 1000)],
    Case("cross", Shape(50, 133), 16),
    Case("cross_long", Shape(133, 50), 16, {"window": 1}),
    Case("grouped", _self(131, h=6, g=2), 16, {"window": 1}),
    Case("one_group", _self(131, h=4, g=1, b=2), 16, {"is_causal": 1}),
    Case("batch", _self(65, b=3), 16, {}, {"masked": 0.2}),
    Case("masked", _self(131, b=2), 16, {"window": 1}, {"masked": 0.5}),
    Case("masked_causal", _self(131, b=2), 16, {"is_causal": 1}, {"masked": 0.5}),
    Case("nearly_all_masked", _self(131, b=2), 16, {}, {"masked": 0.97}),
    Case("all_masked", _self(131), 16, {}, {"masked": 1.0}),
    Case("no_summaries", _self(131), 16, {"summaries": 0}),
    Case("no_summaries_causal", _self(131), 16, {"summaries": 0, "is_causal": 1}),
    Case("window_only", _self(131), 16, {"window": 1}, {"top_p": 0.0}),
    Case("everything", _self(131), 16, {}, {"top_p": 1.0, "max_blocks": 100}),
    Case("capped", _self(131), 16, {}, {"top_p": 1.0, "max_blocks": 3}),
    Case("negative_cap", _self(131), 16, {}, {"top_p": 1.0, "max_blocks": -5}),
    Case("huge_window", _self(131), 16, {"window": 2**62}),
    Case("large_logits", _self(131, d=64, v=64), 64, {}, {"spread": 30.0}),
    Case("wide", _self(300, h=8, g=8, d=64, v=64), 64, {"window": 1}),
]


@st.composite
def any_case(draw: st.DrawFn, fewest: int = 0) -> Case:
    """Any attributes, on at least `fewest` tokens of queries and keys each."""

    def integer(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    groups, repeats, tokens = integer(1, 3), integer(1, 3), integer(fewest, 90)
    causal = integer(0, 1)
    shape = Shape(
        tokens,
        tokens if causal else integer(fewest, 90),
        h=groups * repeats,
        g=groups,
        d=integer(1, 40),
        v=integer(1, 40),
        b=integer(1, 2),
    )
    attributes = {"is_causal": causal, "summaries": integer(0, 1), "window": integer(0, 3)}
    inputs = {
        "seed": integer(0, 2**31),
        "top_p": draw(st.sampled_from([-1.0, 0.0, 0.3, 0.7, 0.95, 1.0, 5.0])),
        "max_blocks": integer(-1, 9),
        "masked": draw(st.sampled_from([0.0, 0.1, 0.6, 1.0])),
    }
    return Case("drawn", shape, integer(1, 100), attributes, inputs)
