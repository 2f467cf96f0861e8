"""The router of a drop-in layer: the pooled query-key similarity, and what a trained model adds to it.

A trained model looks at some keys from everywhere (the first token, a separator) and at others by their
distance, whatever stands there. Both are found from data: a bias on the pooled query lets a key be wanted by
every query for what it is, and two small tables let it be wanted for where it is. All start at zero, so the
router starts as pooled query-key similarity and needs no training to be of use.

```
s_ij = <Rq mean(q_i) + c, Rk [mean; max; min](k_j)> + place[j] + distance[i - j]
```

Shapes as in `edgesparse/attention/router.py`; `P` block positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesparse.attention.router import Router
from edgesparse.dropin.config import POSITIONS


class DropinRouter(Router):
    """`Router` with a bias on the query side and biases by place and by distance.

    Args:
        scale: factor on q.k in the attention that it routes.
    """

    # Axes of blocks of what `pool` returns.
    block_axes = ((2,), (2,))

    def __init__(
        self, heads: int, groups: int, head_size: int, block_size: int, *, scale: float, is_causal: bool
    ) -> None:
        super().__init__(heads, groups, head_size, block_size, is_causal=is_causal)
        with torch.no_grad():
            self.query_weight.mul_(scale * head_size**0.5)
        self.query_bias = nn.Parameter(torch.zeros(heads, 1, head_size))
        self.place = nn.Parameter(torch.zeros(heads, POSITIONS))
        self.distance = nn.Parameter(torch.zeros(heads, 2 * POSITIONS - 1))

    def forward(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> Tensor:
        """Block scores [B, H, Q, K] of packed queries [B, N, H*D] and keys [B, N, G*D]."""
        return self.score(*self.pool(query_BNC, key_BNC, key_mask_BN))

    def pool(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> tuple[Tensor, Tensor]:
        """All that the scores depend on: queries [B, H, Q, D] and keys [B, G, K, 3*D] at block resolution.

        Causal: query block `i` gets the pooled query of block `i - 1` (see `Router.forward`).
        """
        query = self._to_heads(self._pool(query_BNC, key_mask_BN)[0], self.heads)
        if self.is_causal:
            query = torch.nn.functional.pad(query[:, :, :-1], (0, 0, 1, 0))
        pooled = self._pool(key_BNC, key_mask_BN, with_extremes=True)
        return query, torch.cat([self._to_heads(x, self.groups) for x in pooled], dim=-1)

    def score(self, query_BHQD: Tensor, key_BGKE: Tensor) -> Tensor:
        """Block scores [B, H, Q, K] of pooled queries and keys."""
        query, key = query_BHQD @ self.query_weight + self.query_bias, key_BGKE @ self.key_weight
        if self.groups != self.heads:
            key = key.repeat_interleave(self.heads // self.groups, dim=1)
        index = torch.arange(key.shape[2], device=key.device)
        offset = (index[:, None] - index).clamp(1 - POSITIONS, POSITIONS - 1) + POSITIONS - 1
        place = self.place[:, index.clamp(max=POSITIONS - 1)]
        scores = query @ key.mT + self.distance[:, offset] + place[:, None]
        if self.is_causal:
            scores = scores.masked_fill(index[:, None] == index, -torch.inf)
        return scores
