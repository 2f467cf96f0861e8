"""What an attention layer reports of one pass besides its output, and how to collect it from a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.flops import dense_flops, sparse_flops
from edgesparse.attention.selection import reachable_blocks, valid_blocks


@dataclass(frozen=True)
class AttentionRecord:
    """One pass of one layer.

    Attributes:
        attributes: of the operator.
        head_size: D.
        key_mask: bool [B, N], false = padding.
        selection: bool [B, H, Q, K], true = attended; None where attention was dense.
        router_loss: divergence from the true block mass on sampled query blocks; in training mode only.
    """

    attributes: Attributes
    head_size: int
    key_mask: Tensor
    selection: Tensor | None = None
    router_loss: Tensor | None = None

    @property
    def reach(self) -> Tensor:
        """Pairs of blocks that may be attended to, bool [B, 1, Q, K]."""
        valid = valid_blocks(self.key_mask, self.attributes.block_size)
        return reachable_blocks(valid, valid.shape[1], is_causal=bool(self.attributes.is_causal))

    @property
    def flops(self) -> Tensor:
        """What this pass cost, router and summaries included; float64 scalar."""
        if self.selection is None:
            return self.dense_flops
        return sparse_flops(self.attributes, self.head_size, self.selection, self.reach, self.key_mask)

    @property
    def dense_flops(self) -> Tensor:
        """What dense attention costs on the same tokens; float64 scalar."""
        return dense_flops(self.attributes, self.head_size, self.key_mask.sum(-1))


Records = dict[nn.Module, AttentionRecord]


class RecordedAttention(nn.Module):
    """A layer whose forward pass returns its output and an `AttentionRecord`."""


@contextmanager
def attention_records(model: nn.Module) -> Iterator[Records]:
    """Collects the record of every layer's latest pass while the context is open, in order of first use."""
    records: Records = {}

    def keep(layer: nn.Module, inputs: Any, output: tuple[Tensor, AttentionRecord]) -> None:
        records[layer] = output[1]

    hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, RecordedAttention)]
    try:
        yield records
    finally:
        for hook in hooks:
            hook.remove()
