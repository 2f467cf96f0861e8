"""The naive twin of `edgesparse::WindowAttention` (docs/reference/operator.md), all pairs of tokens at once.

The fast path, the ONNX function body and the C++ kernels are tested against it; on float64 inputs it is the
reference that errors are measured from.

Shapes: `B` batch, `N` tokens, `H` query heads, `G` key/value heads, `D`/`E` head size of keys/values, `S`
starts of packed texts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgesparse.attention.attributes import WindowAttributes
from edgesparse.attention.heads import merge_heads, split_heads


def window_attention(
    query_BNC: Tensor,
    key_BNC: Tensor,
    value_BNC: Tensor,
    key_mask_BN: Tensor,
    starts_S: Tensor,
    *,
    attributes: WindowAttributes,
) -> Tensor:
    """Each token attends to the window around it, as far as its own text reaches.

    Args:
        query_BNC: packed, [B, N, H*D]; key [B, N, G*D] and value [B, N, G*E] likewise.
        key_mask_BN: bool, false = padding.
        starts_S: int64, where texts begin, rising; a token belongs to the last text that begins at or before
            it. The cumulative lengths of packed texts are such starts; [0] or none is one text.

    Returns:
        Output [B, N, H*E] in the dtype of the query; a query that sees nothing gives zeros.
    """
    a = attributes
    query = split_heads(query_BNC, a.num_heads)
    per_group = a.num_heads // a.kv_num_heads
    key, value = (
        split_heads(x, a.kv_num_heads).repeat_interleave(per_group, dim=1) for x in (key_BNC, value_BNC)
    )
    allowed = seen_tokens(query.shape[2], starts_S, attributes) & key_mask_BN[:, None, None, :]
    logits = ((query * a.scale) @ key.mT).masked_fill(~allowed, -torch.inf)
    weights = logits.softmax(-1).masked_fill(~allowed.any(-1, keepdim=True), 0.0)
    # What padding holds is never read.
    real = value.masked_fill(~key_mask_BN[:, None, :, None], 0.0)
    return merge_heads(weights @ real)


def seen_tokens(length: int, starts_S: Tensor, attributes: WindowAttributes) -> Tensor:
    """Whether a token (row) sees another, bool [N, N]."""
    token = torch.arange(length)
    text = (starts_S[:, None] <= token).sum(0)
    seen = text[:, None] == text
    if attributes.left_window >= 0:
        seen = seen & (token >= token[:, None] - attributes.left_window)
    if attributes.right_window >= 0:
        seen = seen & (token <= token[:, None] + attributes.right_window)
    return seen
