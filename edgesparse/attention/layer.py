"""`SparseAttention`: multi-head self-attention that computes only the blocks its router selects.

Shapes: `B` batch, `N` tokens, `C` width, `H` heads, `G` key/value heads, `D` head size, `Q`/`K` blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.core import BlockAttention
from edgesparse.attention.heads import merge_heads, split_heads
from edgesparse.attention.record import AttentionRecord
from edgesparse.attention.router import Router, router_loss, true_block_mass
from edgesparse.attention.selection import block_count

# Logits of the router's target that are in memory at the same time: four times as many were four times as
# slow (2,048 tokens: 38 ms in one piece, 10 ms per batch entry).
TARGET_LOGITS = 1 << 20


@dataclass(frozen=True)
class AttentionConfig:
    """Shape and rule of one attention layer.

    Attributes:
        width: model width C.
        num_heads: query heads H; must divide `width`.
        kv_num_heads: key/value heads G, dividing H; None = H.
        block_size: tokens per block.
        window: blocks on each side that are always kept; 0 = the diagonal block only.
        summaries: every dropped block still takes part as one summary token.
        is_causal: tokens see only the past.
        mode: "dense" computes everything and has no router.
        value_filter: size of the depthwise convolution over values (local completion); 0 = none.
    """

    width: int
    num_heads: int
    kv_num_heads: int | None = None
    block_size: int = 16
    window: int = 1
    summaries: bool = True
    is_causal: bool = False
    mode: Literal["dense", "sparse"] = "sparse"
    value_filter: int = 5

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(f"`num_heads` must divide `width` ({self.width}); got {self.num_heads}.")
        if self.kv_num_heads is not None and (self.kv_num_heads < 1 or self.num_heads % self.kv_num_heads):
            raise ValueError(
                f"`kv_num_heads` must divide `num_heads` ({self.num_heads}); got {self.kv_num_heads}."
            )
        if self.block_size < 1:
            raise ValueError(f"`block_size` must be at least 1; got {self.block_size}. Use 16 to 64.")
        if self.window < 0:
            raise ValueError(f"`window` must be at least 0; got {self.window}.")
        if self.mode not in ("dense", "sparse"):
            raise ValueError(f"`mode` must be 'dense' or 'sparse'; got {self.mode!r}.")
        if self.value_filter < 0 or (self.value_filter and self.value_filter % 2 == 0):
            raise ValueError(f"`value_filter` must be odd or 0; got {self.value_filter}. Use 5.")

    @property
    def head_size(self) -> int:
        return self.width // self.num_heads

    @property
    def groups(self) -> int:
        return self.kv_num_heads or self.num_heads

    @property
    def attributes(self) -> Attributes:
        """Of the operator that the layer computes."""
        return Attributes(
            num_heads=self.num_heads,
            kv_num_heads=self.groups,
            block_size=self.block_size,
            scale=self.head_size**-0.5,
            window=self.window,
            summaries=int(self.summaries),
            is_causal=int(self.is_causal),
        )


class SparseAttention(BlockAttention):
    """Self-attention over selected blocks, with summaries and a value convolution for what was dropped.

    The rule is docs/reference/operator.md. While `warmup` is true attention is dense and only the router
    learns (its loss needs no selection).
    """

    router: Router | None

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config.attributes, config.head_size)
        self.config = config
        width, kv_width = config.width, config.groups * config.head_size
        self.project_in = nn.Linear(width, width + 2 * kv_width)
        self.project_out = nn.Linear(width, width)
        self.value_conv: nn.Conv1d | None = None
        if config.value_filter:
            self.value_conv = nn.Conv1d(kv_width, kv_width, config.value_filter, groups=kv_width, bias=False)
            # Starts as nothing, so that attention starts as attention.
            nn.init.zeros_(self.value_conv.weight)
        self.router = None
        if config.mode == "sparse":
            self.router = Router(
                config.num_heads,
                config.groups,
                config.head_size,
                config.block_size,
                is_causal=config.is_causal,
            )
            self.add_knobs()
        self.warmup = False

    def forward(self, x_BNC: Tensor, key_mask_BN: Tensor | None = None) -> tuple[Tensor, AttentionRecord]:
        """[B, N, C] -> [B, N, C], and what the pass did.

        Args:
            key_mask_BN: bool, false = padding; None = every token is real.
        """
        cfg = self.config
        kv_width = cfg.groups * cfg.head_size
        query, key, value = self.project_in(x_BNC).split([cfg.width, kv_width, kv_width], dim=-1)
        if self.router is None:
            mixed, record = self.attend_densely(query, key, value, key_mask_BN)
        else:
            # The router learns from its own loss alone: selection has no gradient, and the model's q and k
            # should serve attention, not the router.
            scores = self.router(query.detach(), key.detach(), key_mask_BN)
            if self.warmup:
                mixed, record = self.attend_densely(query, key, value, key_mask_BN)
            else:
                mixed, record = self.attend(query, key, value, scores.detach(), key_mask_BN)
            if self.training:
                loss = self._router_loss(query.detach(), key.detach(), scores, record)
                record = replace(record, router_loss=loss)
        if self.value_conv is not None:
            mixed = mixed + self._convolve(value, key_mask_BN)
        projected: Tensor = self.project_out(mixed)
        return projected, record

    def _convolve(self, value_BNC: Tensor, key_mask_BN: Tensor | None) -> Tensor:
        assert self.value_conv is not None
        reach = self.config.value_filter - 1
        sides = (reach, 0) if self.config.is_causal else (reach // 2, reach // 2)
        if key_mask_BN is not None:
            value_BNC = value_BNC.masked_fill(~key_mask_BN[..., None], 0.0)
        local: Tensor = self.value_conv(pad(value_BNC.mT, sides)).mT
        if self.config.groups != self.config.num_heads:
            repeats = self.config.num_heads // self.config.groups
            local = merge_heads(split_heads(local, self.config.groups).repeat_interleave(repeats, dim=1))
        return local

    def _router_loss(
        self, query_BNC: Tensor, key_BNC: Tensor, block_scores_BHQK: Tensor, record: AttentionRecord
    ) -> Tensor:
        """KL to the true block mass on a sixteenth of the whole query blocks (at least two)."""
        cfg = self.config
        query, key = split_heads(query_BNC, cfg.num_heads), split_heads(key_BNC, cfg.groups)
        whole = query.shape[2] // cfg.block_size
        if whole == 0:
            return block_scores_BHQK.sum() * 0.0
        sample = torch.randperm(whole)[: max(2, whole // 16)]
        logits = query.shape[1] * len(sample) * cfg.block_size * key.shape[2]
        entries = max(1, TARGET_LOGITS // logits)
        with torch.no_grad():
            mass = torch.cat(
                [
                    true_block_mass(
                        query,
                        key,
                        sample,
                        mask,
                        block_size=cfg.block_size,
                        scale=self.attributes.scale,
                        is_causal=cfg.is_causal,
                    )
                    for query, key, mask in zip(
                        *(torch.split(x, entries) for x in (query, key, record.key_mask)), strict=True
                    )
                ]
            )
        return router_loss(block_scores_BHQK[:, :, sample], mass, record.reach[:, :, sample])

    def extra_repr(self) -> str:
        cfg = self.config
        return f"width={cfg.width}, num_heads={cfg.num_heads}, block_size={cfg.block_size}, mode={cfg.mode}"


def window_blocks(config: AttentionConfig, length: int) -> int:
    """Most blocks that the window of a query block holds at this length."""
    return min(block_count(length, config.block_size), config.window * (1 if config.is_causal else 2) + 1)
