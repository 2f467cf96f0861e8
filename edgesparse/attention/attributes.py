"""The attributes of one attention node: what is fixed per layer, in every telling."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from edgesparse_runtime.errors import InputError


@dataclass(frozen=True)
class Attributes:
    """Those of `edgesparse::SparseAttention`; see docs/reference/operator.md.

    Attributes:
        num_heads: query heads H.
        kv_num_heads: key/value heads G, dividing H.
        block_size: tokens per block.
        scale: factor on q.k.
        window: blocks on each side that are always kept; 0 = the diagonal block only.
        summaries: 1 = every dropped block still takes part as one summary token.
        is_causal: 1 = tokens see the past only.
        precision: what a kernel may compute in, "float32" or "int8".
    """

    num_heads: int = 1
    kv_num_heads: int = 1
    block_size: int = 16
    scale: float = 0.25
    window: int = 0
    summaries: int = 1
    is_causal: int = 0
    precision: str = "float32"

    def to_node(self) -> dict[str, int | float | str]:
        """As a node holds them: flags as integers."""
        return asdict(self) | {"summaries": int(self.summaries), "is_causal": int(self.is_causal)}


@dataclass(frozen=True)
class WindowAttributes:
    """Those of `edgesparse::WindowAttention`; see docs/reference/operator.md.

    Attributes:
        num_heads: query heads H.
        kv_num_heads: key/value heads G, dividing H.
        scale: factor on q.k.
        left_window: tokens before a token that it sees, besides itself; -1 = all of its text.
        right_window: tokens behind it, likewise; 0 = causal.

    Raises:
        InputError: one of them is out of range.
    """

    num_heads: int = 1
    kv_num_heads: int = 1
    scale: float = 0.25
    left_window: int = -1
    right_window: int = -1

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.kv_num_heads < 1 or self.num_heads % self.kv_num_heads:
            raise InputError(
                f"`kv_num_heads` must divide `num_heads`; got {self.kv_num_heads} and {self.num_heads}."
            )
        for name in ("left_window", "right_window"):
            if getattr(self, name) < -1:
                raise InputError(f"`{name}` must be -1 (no bound) or more; got {getattr(self, name)}.")
        if not math.isfinite(self.scale):
            raise InputError(f"`scale` must be finite; got {self.scale}.")

    def to_node(self) -> dict[str, int | float]:
        """As a node holds them."""
        return asdict(self)
