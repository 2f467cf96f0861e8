"""The router that asks: a few queries of each block, and what they attend to, exactly.

Where what is looked for is a single token (a copy, a name, a fact), pooled keys do not show it: rotary
positions and the mean hide it. A sampled query sees it, but speaks for itself alone; means of a few tokens
speak for all of them, less sharply. So both are asked. At 2 of 32 queries this costs a sixteenth of the
query-key products and nothing of the rest of attention.

```
m_ij = root mean square of the mass that the sampled queries of block i give to block j
n_ij = the same of the mean queries of the block's parts of 8 tokens, to mean keys of 8 tokens
s_ij = log sqrt(m_ij^2 + n_ij^2 / 2)
```

Nothing is learned but `top_p`, by calibration. Causal: the samples of a block are its own, so which earlier
blocks a token sees depends on tokens up to the end of its block. It attends to earlier tokens only, but its
output is not quite that of the same text cut off behind it: for prompts, whose tokens are all known, not for
training.

Shapes: `B` batch, `N` tokens, `P` parts, `H`/`G` query and key/value heads, `R` query heads per group, `D`
head size, `S` queries that are asked, `M` keys, `Q`/`K` query and key blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from edgesparse.attention.selection import block_count

# Tokens of a part, and what its mass squared counts beside that of samples.
PART, PART_WEIGHT = 8, 0.5
# Mass below which a block has none.
_LEAST = 1e-30


class SampledRouter(nn.Module):
    """Block scores from the attention of `queries` tokens of each block, and of means of its parts.

    Args:
        queries: per block, the last of as many equal parts of it.
        scale: factor on q.k in the attention that it routes.
    """

    # Axes of blocks of what `pool` returns.
    block_axes = ((2, 3),)
    ends: Tensor

    def __init__(
        self, heads: int, groups: int, block_size: int, *, queries: int, scale: float, is_causal: bool
    ) -> None:
        super().__init__()
        self.heads, self.groups, self.block_size = heads, groups, block_size
        self.queries, self.scale, self.is_causal = queries, scale, is_causal
        self.part = math.gcd(block_size, PART)
        ends = torch.arange(1, queries + 1) * block_size // queries - 1
        self.register_buffer("ends", ends, persistent=False)

    def forward(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> Tensor:
        """Block scores [B, H, Q, K] of packed queries [B, N, H*D] and keys [B, N, G*D]."""
        return self.score(*self.pool(query_BNC, key_BNC, key_mask_BN))

    def pool(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> tuple[Tensor]:
        """The mass [B, H, Q, K]: all that the scores depend on."""
        length = query_BNC.shape[1]
        blocks = block_count(length, self.block_size)
        # A last block that is short is asked at its last token.
        token_S = (torch.arange(blocks)[:, None] * self.block_size + self.ends).flatten()
        token_S = token_S.clamp(max=length - 1)
        query, real_BS = _sample(query_BNC, token_S, key_mask_BN)
        squares = self._block_mass(query, key_BNC, token_S, key_mask_BN, self.block_size).square()
        squares = squares.view(*squares.shape[:2], blocks, self.queries, blocks)
        if real_BS is None:
            squares = squares.mean(3)
        else:
            # Padding between real tokens, or before them, is not asked.
            real = real_BS.view(-1, 1, blocks, self.queries, 1)
            squares = (squares * real).sum(3) / real.sum(3).clamp(min=1)
        return ((squares + PART_WEIGHT * self._part_squares(query_BNC, key_BNC, key_mask_BN)).sqrt(),)

    def score(self, mass_BHQK: Tensor) -> Tensor:
        """Block scores [B, H, Q, K] whose shares are the mass."""
        scores = mass_BHQK.clamp(min=_LEAST).log()
        if self.is_causal:
            index = torch.arange(scores.shape[-1])
            scores = scores.masked_fill(index[:, None] == index, -torch.inf)
        return scores

    def _part_squares(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> Tensor:
        """Mean over a block's parts of the square of their mass, [B, H, Q, K]."""
        query, real_BP = _mean_parts(query_BNC, key_mask_BN, self.part)
        key, _ = _mean_parts(key_BNC, key_mask_BN, self.part)
        per_block = self.block_size // self.part
        mask_BP = None if key_mask_BN is None else real_BP
        mass = self._block_mass(query, key, torch.arange(query.shape[1]), mask_BP, per_block)
        squares = mass.square() * real_BP[:, None, :, None]
        blocks = squares.shape[-1]
        rest = blocks * per_block - query.shape[1]
        squares = pad(squares, (0, 0, 0, rest)).view(*squares.shape[:2], blocks, per_block, blocks)
        counts = pad(real_BP, (0, rest)).view(-1, 1, blocks, per_block, 1).sum(3)
        return squares.sum(3) / counts.clamp(min=1)

    def _block_mass(
        self,
        query_BSC: Tensor,
        key_BMC: Tensor,
        query_place_S: Tensor,
        key_mask_BM: Tensor | None,
        size: int,
    ) -> Tensor:
        """The mass of queries on blocks of `size` keys [B, H, S, K]; a causal one sees no key behind it.

        One key/value head after the other: of all heads at once the weights of a long prompt take gigabytes.
        """
        (batch, asked, _), keys = query_BSC.shape, key_BMC.shape[1]
        blocks = block_count(keys, size)
        rest = blocks * size - keys
        place_M = torch.arange(blocks * size)
        hidden = place_M > query_place_S[:, None] if self.is_causal else place_M >= keys
        if key_mask_BM is not None:
            hidden = hidden | ~pad(key_mask_BM, (0, rest))[:, None, None]
        query = query_BSC.view(batch, asked, self.groups, self.heads // self.groups, -1) * self.scale
        key = pad(key_BMC, (0, 0, 0, rest)).view(batch, blocks * size, self.groups, -1)
        found = []
        for group in range(self.groups):
            # [B, R, S, D] @ [B, 1, D, M]
            logits = query[:, :, group].transpose(1, 2) @ key[:, :, group].mT[:, None]
            weights = logits.masked_fill(hidden, -torch.inf).softmax(-1)
            if key_mask_BM is not None:
                # A query that sees padding only has no mass.
                weights = weights.nan_to_num(0.0)
            found.append(weights.view(batch, -1, asked, blocks, size).sum(-1))
        return torch.cat(found, dim=1)

    def extra_repr(self) -> str:
        return f"queries={self.queries}, block_size={self.block_size}"


def _sample(query_BNC: Tensor, token_S: Tensor, key_mask_BN: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The queries of these tokens [B, S, C], and which are real: bool [B, S], None where all are.

    In place of padding at the end stands the last real token.
    """
    if key_mask_BN is None:
        return query_BNC.index_select(1, token_S), None
    last_B1 = (torch.arange(query_BNC.shape[1]) * key_mask_BN).amax(-1, keepdim=True)
    token_BS = torch.minimum(token_S, last_B1)
    query = query_BNC.gather(1, token_BS[..., None].expand(-1, -1, query_BNC.shape[-1]))
    return query, key_mask_BN.gather(1, token_BS)


def _mean_parts(x_BNC: Tensor, mask_BN: Tensor | None, part: int) -> tuple[Tensor, Tensor]:
    """Means over the real tokens of each part [B, P, C], and which parts have any: bool [B, P]."""
    batch, length, width = x_BNC.shape
    parts = block_count(length, part)
    rest = parts * part - length
    real = torch.ones_like(x_BNC[..., 0], dtype=torch.bool) if mask_BN is None else mask_BN
    real = pad(real, (0, rest)).view(batch, parts, part)
    x = pad(x_BNC, (0, 0, 0, rest)).view(batch, parts, part, width)
    if mask_BN is not None:
        x = x.masked_fill(~real[..., None], 0.0)
    counts = real.sum(-1)
    return x.sum(2) / counts.clamp(min=1)[..., None], counts > 0
