"""What `SparseAttention` and the drop-in's attention share: a router, two knobs, and the computation itself.

The computation is in modules without parameters, so that an export can put modules in their place that
emit operators (`edgesparse_export.passes.emit_operators`).

Shapes: `B` batch, `N` tokens, `H`/`G` query and key/value heads, `D`/`E` head size of keys/values,
`Q`/`K` blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from edgesparse.attention.attributes import Attributes, WindowAttributes
from edgesparse.attention.gather import sparse_attention
from edgesparse.attention.heads import merge_heads, split_heads
from edgesparse.attention.record import AttentionRecord, RecordedAttention
from edgesparse.attention.window import window_attention

# `max_blocks` that never binds; far below the int64 limit so that engines may add to it.
NO_CAP = 1 << 30


class SparseCore(nn.Module):
    """The operator, as a module: seven inputs, attributes, output and selection."""

    def forward(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        block_scores_BHQK: Tensor,
        top_p: Tensor,
        max_blocks: Tensor,
        key_mask_BN: Tensor,
        *,
        attributes: Attributes,
    ) -> tuple[Tensor, Tensor]:
        return sparse_attention(
            query_BNC,
            key_BNC,
            value_BNC,
            block_scores_BHQK,
            top_p,
            max_blocks,
            key_mask_BN,
            attributes=attributes,
        )


class WindowCore(nn.Module):
    """`edgesparse::WindowAttention`, as a module: five inputs, attributes and output."""

    def forward(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        key_mask_BN: Tensor,
        starts_S: Tensor,
        *,
        attributes: WindowAttributes,
    ) -> Tensor:
        return window_attention(query_BNC, key_BNC, value_BNC, key_mask_BN, starts_S, attributes=attributes)


class DenseCore(nn.Module):
    """Dense attention over packed tensors, [B, N, H*E].

    Args:
        zero_empty: a query that sees nothing gives zeros, as in the operator; in PyTorch that depends on the
            path that it takes.
    """

    def __init__(self, *, zero_empty: bool = False) -> None:
        super().__init__()
        self.zero_empty = zero_empty

    def forward(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        key_mask_BN: Tensor | None,
        *,
        attributes: Attributes,
        band_NN: Tensor | None = None,
    ) -> Tensor:
        """Attention to every token that is real and, with a band, in it."""
        a = attributes
        allowed = band_NN
        if a.is_causal and (key_mask_BN is not None or band_NN is not None):
            length = query_BNC.shape[1]
            past = torch.ones(length, length, dtype=torch.bool, device=query_BNC.device).tril()
            allowed = past if allowed is None else past & allowed
        if key_mask_BN is not None:
            real = key_mask_BN[:, None, None, :]
            allowed = real if allowed is None else real & allowed
        mixed = scaled_dot_product_attention(
            split_heads(query_BNC, a.num_heads),
            split_heads(key_BNC, a.kv_num_heads),
            split_heads(value_BNC, a.kv_num_heads),
            attn_mask=allowed,
            is_causal=bool(a.is_causal) and allowed is None,
            scale=a.scale,
            enable_gqa=a.kv_num_heads != a.num_heads,
        )
        if self.zero_empty and key_mask_BN is not None:
            mixed = mixed.nan_to_num(0.0)
        return merge_heads(mixed)


class BlockAttention(RecordedAttention):
    """Base of the layers that attend to selected blocks.

    `top_p` [H] and `max_blocks` [1] are buffers, so that a controller can move them during training and a
    session after export. They start at 1 and at no cap, which keeps every block.
    """

    top_p: Tensor
    max_blocks: Tensor

    def __init__(self, attributes: Attributes, head_size: int, *, zero_empty: bool = False) -> None:
        super().__init__()
        self.attributes, self.head_size = attributes, head_size
        self.sparse_core = SparseCore()
        self.dense_core = DenseCore(zero_empty=zero_empty)

    @property
    def scale(self) -> float:
        """Factor on q.k."""
        return self.attributes.scale

    def add_knobs(self) -> None:
        """Registers `top_p` and `max_blocks`."""
        self.register_buffer("top_p", torch.ones(self.attributes.num_heads))
        self.register_buffer("max_blocks", torch.full((1,), NO_CAP, dtype=torch.int64))

    def attend(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        block_scores_BHQK: Tensor,
        key_mask_BN: Tensor | None,
        *,
        max_blocks: Tensor | None = None,
    ) -> tuple[Tensor, AttentionRecord]:
        """Attention to the blocks that these scores select; `max_blocks` in place of the buffer, if given."""
        mask = _every_token(key_BNC) if key_mask_BN is None else key_mask_BN
        mixed, selection = self.sparse_core(
            query_BNC,
            key_BNC,
            value_BNC,
            block_scores_BHQK,
            self.top_p,
            self.max_blocks if max_blocks is None else max_blocks,
            mask,
            attributes=self.attributes,
        )
        return mixed, AttentionRecord(self.attributes, self.head_size, mask, selection)

    def attend_densely(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        key_mask_BN: Tensor | None,
        *,
        band_NN: Tensor | None = None,
    ) -> tuple[Tensor, AttentionRecord]:
        """Attention to every token, or to those in a band."""
        mixed = self.dense_core(
            query_BNC, key_BNC, value_BNC, key_mask_BN, attributes=self.attributes, band_NN=band_NN
        )
        mask = _every_token(key_BNC) if key_mask_BN is None else key_mask_BN
        return mixed, AttentionRecord(self.attributes, self.head_size, mask)


def _every_token(x_BNC: Tensor) -> Tensor:
    return torch.ones_like(x_BNC[..., 0], dtype=torch.bool)
