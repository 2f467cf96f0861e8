"""A layer with a sliding window, and texts that are packed one after the other: exact, nothing to calibrate.

Shapes: `B` batch, `N` tokens, `H`/`G` query and key/value heads, `D`/`E` head size of keys/values, `S` texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor, nn

from edgesparse.attention.attributes import Attributes, WindowAttributes
from edgesparse.attention.core import DenseCore, WindowCore
from edgesparse.attention.heads import merge_heads

_STARTS: ContextVar[Tensor | None] = ContextVar("starts", default=None)


@contextmanager
def packed_texts(starts_S: Tensor) -> Iterator[None]:
    """While open, exact attention takes its input for texts that begin at these tokens."""
    token = _STARTS.set(starts_S)
    try:
        yield
    finally:
        _STARTS.reset(token)


def text_starts(like: Tensor) -> Tensor:
    """Where texts begin, int64 [S]: as `packed_texts` says, or at the first token only."""
    starts = _STARTS.get()
    return torch.zeros(1, dtype=torch.int64, device=like.device) if starts is None else starts


class WindowedAttention(nn.Module):
    """Attention of a layer with a sliding window, in place of a model's own.

    Attributes:
        mode: "dense" computes all pairs under a mask, as a rival does; anything else reads the window only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.window_core = WindowCore()
        self.dense_core = DenseCore(zero_empty=True)
        self.mode: Literal["sparse", "dense", "collect", "band", "exact"] = "sparse"

    def forward(
        self,
        query_BHND: Tensor,
        key_BGND: Tensor,
        value_BGNE: Tensor,
        key_mask_BN: Tensor,
        *,
        attributes: WindowAttributes,
    ) -> Tensor:
        """Token-major output [B, N, H*E]."""
        query, key, value = (merge_heads(x) for x in (query_BHND, key_BGND, value_BGNE))
        a = attributes
        if self.mode == "dense":
            whole = Attributes(a.num_heads, a.kv_num_heads, scale=a.scale)
            mixed: Tensor = self.dense_core(
                query, key, value, key_mask_BN, attributes=whole, band_NN=window_mask(query, a)
            )
            return mixed
        mixed = self.window_core(query, key, value, key_mask_BN, text_starts(query), attributes=a)
        return mixed


def window_mask(query_BNC: Tensor, attributes: WindowAttributes) -> Tensor:
    """Which tokens see which, bool [N, N]."""
    token = torch.arange(query_BNC.shape[1], device=query_BNC.device)
    ahead = token - token[:, None]
    seen = ahead >= -attributes.left_window if attributes.left_window >= 0 else ahead == ahead
    return seen & (ahead <= attributes.right_window) if attributes.right_window >= 0 else seen
