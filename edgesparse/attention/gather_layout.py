"""Keys or values as a table of tiles that query blocks gather rows from: all blocks, then all block means.

A tile is a block or an even part of one, so that the means of a few dozen blocks do not fill a whole block
with padding. Padding and masked tokens are zeros: no product with them can make a NaN.

Shapes: `I` items (one batch entry and key/value head each), `M` tokens, `D` head size, `K` blocks, `b` the
block size, `g` tokens per tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgesparse.attention.selection import block_count, valid_counts


@dataclass(frozen=True)
class TableLayout:
    """Where blocks and means lie in a table of `length` tokens."""

    length: int
    block_size: int
    summaries: bool

    @property
    def blocks(self) -> int:
        return block_count(self.length, self.block_size)

    @property
    def tile(self) -> int:
        """Tokens per tile: the largest of a block, its half and its quarter that the means fill best."""
        if not self.summaries:
            return self.block_size
        parts = [self.block_size // n for n in (1, 2, 4) if self.block_size % n == 0]
        return min(parts, key=lambda tile: (block_count(self.blocks, tile) * tile, -tile))

    @property
    def tiles_per_block(self) -> int:
        return self.block_size // self.tile

    @property
    def mean_tiles(self) -> int:
        return block_count(self.blocks, self.tile) if self.summaries else 0

    @property
    def tiles(self) -> int:
        """Tiles per item."""
        return self.blocks * self.tiles_per_block + self.mean_tiles

    def rows(self, order_ITS: Tensor) -> Tensor:
        """Rows of the flat table [I*tiles, g*D] that hold these blocks and all means, int64 [I, T, rows]."""
        items, device = order_ITS.shape[0], order_ITS.device
        parts = torch.arange(self.tiles_per_block, device=device)
        rows = (order_ITS[..., None] * self.tiles_per_block + parts).flatten(2)
        means = torch.arange(self.blocks * self.tiles_per_block, self.tiles, device=device)
        rows = torch.cat([rows, means.expand(items, rows.shape[1], -1)], dim=-1)
        return rows + (torch.arange(items, device=device) * self.tiles)[:, None, None]

    def build(self, x_IMD: Tensor, key_mask_IM: Tensor | None) -> Tensor:
        """The table [I*tiles, g*D]; a mask of None means that every token is real."""
        items, length, size = x_IMD.shape
        table = x_IMD.new_zeros(items, self.tiles * self.tile, size)
        tokens = table[:, :length]
        tokens.copy_(x_IMD)
        if key_mask_IM is not None:
            tokens.masked_fill_(~key_mask_IM[..., None], 0.0)
        if self.summaries:
            blocks = table[:, : self.blocks * self.block_size].view(items, self.blocks, -1, size)
            first = self.blocks * self.block_size
            means = table[:, first : first + self.blocks]
            torch.sum(blocks, dim=2, out=means)
            means.div_(self.counts(key_mask_IM, x_IMD))
        return table.view(-1, self.tile * size)

    def gradient(self, table_grad: Tensor, x_IMD: Tensor, key_mask_IM: Tensor | None) -> Tensor:
        """Gradient of `x`, [I, M, D], from that of its table; the table's gradient is used up."""
        items, length, size = x_IMD.shape
        table = table_grad.view(items, -1, size)
        if self.summaries:
            first = self.blocks * self.block_size
            means = table[:, first : first + self.blocks] / self.counts(key_mask_IM, x_IMD)
            table[:, :first].view(items, self.blocks, -1, size).add_(means[:, :, None])
        tokens = table[:, :length]
        if key_mask_IM is not None:
            tokens = tokens.masked_fill(~key_mask_IM[..., None], 0.0)
        return tokens

    def counts(self, key_mask_IM: Tensor | None, like: Tensor) -> Tensor:
        """Real tokens per block, at least 1: [I or 1, K, 1]."""
        if key_mask_IM is None:
            key_mask_IM = torch.ones(1, self.length, dtype=torch.bool, device=like.device)
        return valid_counts(key_mask_IM, self.block_size).clamp(min=1).to(like.dtype)[..., None]
