"""The attributes of one `edgesparse::SparseAttention` node: what is fixed per layer, in every telling."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Attributes:
    """See docs/reference/operator.md.

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
