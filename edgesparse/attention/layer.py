"""`SparseAttention`: multi-head self-attention that computes only the blocks its router asks for.

Shapes: `B` batch, `N` tokens, `C` width, `H` heads, `G` key/value heads, `D` head size, `Q`/`K` blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from edgesparse.attention.flops import AttentionShape, dense_flops, sparse_flops
from edgesparse.attention.gather import gather_attention
from edgesparse.attention.reference import merge_heads, split_heads
from edgesparse.attention.router import Router, router_loss, true_block_mass
from edgesparse.attention.selection import block_count, ordered_selection, reachable_blocks, valid_blocks

OPERATOR = "edgesparse::SparseAttention"
OPERATOR_VERSION = 1
# `max_blocks` that never binds; far below the int64 limit so that engines may add to it.
NO_CAP = 1 << 30

# Logits of the router's teacher that are at hand at the same time: four times as many were four times as slow
# (2,048 tokens: 38 ms in one piece, 10 ms a batch entry).
TEACHER_LOGITS = 1 << 20


@dataclass(frozen=True)
class AttentionConfig:
    """Shape and rule of one attention layer.

    Attributes:
        width: model width C.
        num_heads: query heads H; must divide `width`.
        kv_num_heads: key/value heads G, dividing H; None = H.
        block_size: tokens a block.
        window: blocks on each side that are always kept; 0 = the own block only.
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
    def shape(self) -> AttentionShape:
        return AttentionShape(
            heads=self.num_heads,
            groups=self.groups,
            head_size=self.head_size,
            block_size=self.block_size,
            summaries=self.summaries,
            is_causal=self.is_causal,
        )


class SparseAttention(nn.Module):
    """Self-attention over selected blocks, with summaries and a value convolution for what was dropped.

    The rule is docs/operator.md; `top_p` [H] and `max_blocks` [1] are buffers, so that a controller can
    move them during training and a session after export. While `warmup` is true attention is dense and
    only the router learns (its loss needs no selection).

    After a forward pass in training mode: `router_loss` (KL to the true block mass on sampled query
    blocks), and after any forward pass with `is_recording`: `selection`, `reach`, `flops` and
    `dense_flops`.
    """

    top_p: Tensor
    max_blocks: Tensor

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        width, kv_width = config.width, config.groups * config.head_size
        self.project_in = nn.Linear(width, width + 2 * kv_width)
        self.project_out = nn.Linear(width, width)
        self.value_conv: nn.Conv1d | None = None
        if config.value_filter:
            self.value_conv = nn.Conv1d(kv_width, kv_width, config.value_filter, groups=kv_width, bias=False)
            # Starts as nothing, so that attention starts as attention.
            nn.init.zeros_(self.value_conv.weight)
        self.scale = config.head_size**-0.5
        self.router: Router | None = None
        if config.mode == "sparse":
            self.router = Router(
                config.num_heads,
                config.groups,
                config.head_size,
                config.block_size,
                is_causal=config.is_causal,
            )
            self.register_buffer("top_p", torch.ones(config.num_heads))
            self.register_buffer("max_blocks", torch.full((1,), NO_CAP, dtype=torch.int64))
        self.warmup = False
        self.is_recording = False
        self.overrides: tuple[Tensor, Tensor] | None = None
        self.router_loss: Tensor | None = None
        self.selection: Tensor | None = None
        self.reach: Tensor | None = None
        self.flops: Tensor | None = None
        self.dense_flops: Tensor | None = None

    def forward(self, x_BNC: Tensor, key_mask_BN: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, N, C].

        Args:
            key_mask_BN: bool, false = padding; None = every token is real.
        """
        cfg = self.config
        kv_width = cfg.groups * cfg.head_size
        query, key, value = self.project_in(x_BNC).split([cfg.width, kv_width, kv_width], dim=-1)
        if cfg.mode == "dense":
            mixed = self._dense(query, key, value, key_mask_BN)
        elif torch.onnx.is_in_onnx_export():
            mixed = self._operator(query, key, value, key_mask_BN)
        else:
            mixed = self._sparse(query, key, value, key_mask_BN)
        if self.value_conv is not None:
            mixed = mixed + self._convolve(value, key_mask_BN)
        projected: Tensor = self.project_out(mixed)
        return projected

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

    def _dense(
        self, query_BNC: Tensor, key_BNC: Tensor, value_BNC: Tensor, key_mask_BN: Tensor | None
    ) -> Tensor:
        cfg = self.config
        if (
            torch.onnx.is_in_onnx_export()
            and key_mask_BN is None
            and not cfg.is_causal
            and cfg.kv_num_heads is None
        ):
            # onnxruntime's fused attention: the fastest dense rival on a CPU, and the one to be fair to.
            fused = torch.onnx.ops.symbolic(
                "com.microsoft::MultiHeadAttention",
                (query_BNC, key_BNC, value_BNC),
                {"num_heads": cfg.num_heads, "scale": self.scale},
                dtype=query_BNC.dtype,
                shape=query_BNC.shape,
                version=1,
            )
            return fused
        mask = None if key_mask_BN is None else key_mask_BN[:, None, None, :]
        if cfg.is_causal and mask is not None:
            length = query_BNC.shape[1]
            mask = mask & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
        mixed = scaled_dot_product_attention(
            split_heads(query_BNC, cfg.num_heads),
            split_heads(key_BNC, cfg.groups),
            split_heads(value_BNC, cfg.groups),
            attn_mask=mask,
            is_causal=cfg.is_causal and mask is None,
            enable_gqa=cfg.groups != cfg.num_heads,
        )
        return merge_heads(mixed)

    def _operator(
        self, query_BNC: Tensor, key_BNC: Tensor, value_BNC: Tensor, key_mask_BN: Tensor | None
    ) -> Tensor:
        """Emits the custom operator; only inside an ONNX export."""
        assert self.router is not None
        cfg = self.config
        block_scores = self.router(query_BNC, key_BNC, key_mask_BN)
        if key_mask_BN is None:
            key_mask_BN = torch.ones_like(key_BNC[..., 0], dtype=torch.bool)
        # The exporter hands in the graph's inputs, so that density stays a knob of the exported file.
        top_p, max_blocks = self.overrides or (self.top_p, self.max_blocks)
        output, selection = torch.onnx.ops.symbolic_multi_out(
            OPERATOR,
            (query_BNC, key_BNC, value_BNC, block_scores, top_p, max_blocks, key_mask_BN),
            {
                "num_heads": cfg.num_heads,
                "kv_num_heads": cfg.groups,
                "block_size": cfg.block_size,
                "scale": self.scale,
                "window": cfg.window,
                "summaries": int(cfg.summaries),
                "is_causal": int(cfg.is_causal),
                "precision": "float32",
            },
            dtypes=(query_BNC.dtype, torch.bool),
            shapes=(query_BNC.shape, block_scores.shape),
            version=OPERATOR_VERSION,
        )
        self.selection = selection
        return output

    def _sparse(
        self, query_BNC: Tensor, key_BNC: Tensor, value_BNC: Tensor, key_mask_BN: Tensor | None
    ) -> Tensor:
        assert self.router is not None
        cfg = self.config
        query = split_heads(query_BNC, cfg.num_heads)
        key, value = split_heads(key_BNC, cfg.groups), split_heads(value_BNC, cfg.groups)
        mask = torch.ones_like(key_BNC[..., 0], dtype=torch.bool) if key_mask_BN is None else key_mask_BN
        valid = valid_blocks(mask, cfg.block_size)
        reach = reachable_blocks(valid, valid.shape[1], is_causal=cfg.is_causal)
        # The router learns from its own loss alone: selection has no gradient, and the model's q and k
        # should serve attention, not the router.
        block_scores = self.router(query_BNC.detach(), key_BNC.detach(), key_mask_BN)
        if self.training:
            self.router_loss = self._teach_router(query.detach(), key.detach(), block_scores, mask, reach)
        if self.warmup:
            return self._dense(query_BNC, key_BNC, value_BNC, key_mask_BN)
        order, kept = ordered_selection(
            block_scores.detach(), self.top_p, self.max_blocks, reach, window=cfg.window
        )
        if self.is_recording:
            self._record(order, kept, reach, mask)
        mixed = gather_attention(
            query,
            key,
            value,
            order,
            kept,
            mask,
            reach,
            block_size=cfg.block_size,
            scale=self.scale,
            summaries=cfg.summaries,
            is_causal=cfg.is_causal,
        )
        return merge_heads(mixed)

    def _teach_router(
        self,
        query_BHND: Tensor,
        key_BGMD: Tensor,
        block_scores_BHQK: Tensor,
        mask_BN: Tensor,
        reach_B1QK: Tensor,
    ) -> Tensor:
        """KL to the true block mass on a sixteenth of the whole query blocks (at least two)."""
        whole = query_BHND.shape[2] // self.config.block_size
        if whole == 0:
            return block_scores_BHQK.sum() * 0.0
        sample = torch.randperm(whole)[: max(2, whole // 16)]
        logits = query_BHND.shape[1] * len(sample) * self.config.block_size * key_BGMD.shape[2]
        entries = max(1, TEACHER_LOGITS // logits)
        with torch.no_grad():
            mass = torch.cat(
                [
                    true_block_mass(
                        query,
                        key,
                        sample,
                        mask,
                        block_size=self.config.block_size,
                        scale=self.scale,
                        is_causal=self.config.is_causal,
                    )
                    for query, key, mask in zip(
                        *(torch.split(x, entries) for x in (query_BHND, key_BGMD, mask_BN)), strict=True
                    )
                ]
            )
        return router_loss(block_scores_BHQK[:, :, sample], mass, reach_B1QK[:, :, sample])

    def _record(self, order_BHQK: Tensor, kept_BHQK: Tensor, reach_B1QK: Tensor, mask_BN: Tensor) -> None:
        self.selection = torch.zeros_like(kept_BHQK).scatter(-1, order_BHQK, kept_BHQK)
        self.reach = reach_B1QK
        self.flops = sparse_flops(self.config.shape, self.selection, reach_B1QK, mask_BN)
        self.dense_flops = dense_flops(self.config.shape, mask_BN.sum(-1))

    def extra_repr(self) -> str:
        cfg = self.config
        return f"width={cfg.width}, num_heads={cfg.num_heads}, block_size={cfg.block_size}, mode={cfg.mode}"


def window_blocks(config: AttentionConfig, length: int) -> int:
    """Most blocks that the window of a query block holds at this length."""
    return min(block_count(length, config.block_size), config.window * (1 if config.is_causal else 2) + 1)
