"""One attention layer of somebody else's model: takes query, key and value, and computes as its mode says.

Shapes: `B` batch, `N` tokens, `H` heads, `G` key/value heads, `D`/`E` head size of keys/values, `Q`/`K`
query and key blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from edgesparse.attention.gather import gather_attention
from edgesparse.attention.layer import NO_CAP, OPERATOR, OPERATOR_VERSION
from edgesparse.attention.reference import merge_heads, split_heads
from edgesparse.attention.selection import ordered_selection, reachable_blocks, valid_blocks, valid_counts
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.observations import Observation, make_observation
from edgesparse.dropin.router import DropinRouter
from edgesparse_runtime.errors import InputError

Mode = Literal["sparse", "dense", "collect", "band"]


class DropinAttention(nn.Module):
    """Attention over the blocks that a router asks for, in place of a model's own.

    `top_p` [H] and `max_blocks` [1] are buffers; 1 and no cap (the start) keep everything, so a layer that
    was not calibrated computes dense attention.

    Attributes:
        mode: "sparse" follows the rule, "dense" computes everything, "collect" computes everything and
            keeps what a router learns from in `observations`, "band" sees `band_width` tokens to each side
            (and the first token, with `band_first`): the plain rival.
        kept_pairs: query-key pairs attended to since `reset_count`, and `pairs` all of them.
        overrides: `top_p` [H] and `max_blocks` [1] in place of the buffers, for an export.
        selection: of the last pass that was exported or counted, bool [B, H, Q, K].
        dropped: share of blocks that the last sparse pass left out, [B].
    """

    top_p: Tensor
    max_blocks: Tensor
    kind: Tensor
    correction: Tensor

    def __init__(
        self,
        rule: DropinConfig,
        *,
        heads: int,
        groups: int,
        head_size: int,
        scale: float,
        is_causal: bool,
    ) -> None:
        super().__init__()
        self.rule = rule
        self.heads, self.groups, self.head_size = heads, groups, head_size
        self.scale, self.is_causal = scale, is_causal
        self.router = DropinRouter(
            heads, groups, head_size, rule.block_size, scale=scale, is_causal=is_causal
        )
        self.register_buffer("top_p", torch.ones(heads))
        self.register_buffer("max_blocks", torch.full((1,), NO_CAP, dtype=torch.int64))
        # What the shapes of the others do not say: a layer can be made from its state (`from_state`).
        self.register_buffer("kind", torch.tensor([scale, float(is_causal)]))
        # [H*E] once it was measured (`correct_means`).
        self.register_buffer("correction", torch.zeros(1))
        self.mode: Mode = "sparse"
        self.band_width, self.band_first = 0, False
        self.observations: list[Observation] = []
        self.overrides: tuple[Tensor, Tensor] | None = None
        self.selection: Tensor | None = None
        self.dropped: Tensor | None = None
        self.is_counting = False
        self.reset_count()

    @classmethod
    def from_state(cls, rule: DropinConfig, state: Mapping[str, Tensor]) -> DropinAttention:
        """The layer whose `state_dict` this is, without gradients.

        Raises:
            KeyError, RuntimeError: it is none.
        """
        heads, head_size, _ = state["router.query_weight"].shape
        scale, causal = state["kind"].tolist()
        groups = len(state["router.key_weight"])
        layer = cls(
            rule, heads=heads, groups=groups, head_size=head_size, scale=scale, is_causal=bool(causal)
        )
        layer.load_state_dict(dict(state))
        return layer.requires_grad_(False)

    def fits(self, query_BHND: Tensor, key_BGND: Tensor, *, scale: float, is_causal: bool) -> bool:
        """Whether a call of attention is the one that this layer was made for."""
        sizes = (query_BHND.shape[1], key_BGND.shape[1], query_BHND.shape[-1])
        same = sizes == (self.heads, self.groups, self.head_size) and is_causal == self.is_causal
        if same and math.isclose(scale, self.scale, rel_tol=1e-6):
            # A layer made from its state knows its scale in float32 only.
            self.scale = scale
            return True
        return False

    def reset_count(self) -> None:
        """Start the count of pairs anew."""
        self.kept_pairs, self.pairs = 0.0, 0.0

    def forward(
        self, query_BHND: Tensor, key_BGND: Tensor, value_BGNE: Tensor, key_mask_BN: Tensor | None
    ) -> Tensor:
        """Token-major output [B, N, H*E].

        Args:
            key_mask_BN: bool, false = padding; None = every token is real.

        Raises:
            InputError: half precision.
        """
        if query_BHND.dtype != torch.float32:
            raise InputError(
                f"Sparse attention must get float32; got {str(query_BHND.dtype).removeprefix('torch.')}. "
                "Call `model.float()`, and leave autocast off."
            )
        if torch.onnx.is_in_onnx_export():
            packed = [merge_heads(x) for x in (query_BHND, key_BGND, value_BGNE)]
            emit = self._emit_dense if self.mode == "dense" else self._emit
            return emit(packed[0], packed[1], packed[2], key_mask_BN)
        if self.mode == "sparse":
            return self._sparse(query_BHND, key_BGND, value_BGNE, key_mask_BN)
        if self.mode == "collect":
            self.observations.append(
                make_observation(
                    self.router,
                    query_BHND,
                    key_BGND,
                    key_mask_BN,
                    scale=self.scale,
                    block_size=self.rule.block_size,
                )
            )
        return self._dense(query_BHND, key_BGND, value_BGNE, key_mask_BN)

    def _dense(
        self, query_BHND: Tensor, key_BGND: Tensor, value_BGNE: Tensor, key_mask_BN: Tensor | None
    ) -> Tensor:
        """Everything, or a band of it."""
        length = query_BHND.shape[2]
        allowed: Tensor | None = None
        if self.mode == "band":
            allowed = band_mask(length, self.band_width, first=self.band_first, is_causal=self.is_causal)
        elif self.is_causal:
            allowed = torch.ones(length, length, dtype=torch.bool).tril()
        if self.is_counting:
            self._count_tokens(allowed, length, key_mask_BN)
        if key_mask_BN is not None:
            keys = key_mask_BN[:, None, None, :]
            allowed = keys if allowed is None else keys & allowed
        output = scaled_dot_product_attention(
            query_BHND,
            key_BGND,
            value_BGNE,
            attn_mask=allowed,
            scale=self.scale,
            enable_gqa=self.groups != self.heads,
        )
        if key_mask_BN is not None:
            # A query that sees nothing gives zeros here, as in the operator; in PyTorch that depends on
            # the path.
            output = output.nan_to_num(0.0)
        return merge_heads(output)

    def _sparse(
        self, query_BHND: Tensor, key_BGND: Tensor, value_BGNE: Tensor, key_mask_BN: Tensor | None
    ) -> Tensor:
        mask = key_mask_BN
        if mask is None:
            mask = torch.ones(query_BHND.shape[0], query_BHND.shape[2], dtype=torch.bool)
        valid = valid_blocks(mask, self.rule.block_size)
        reach = reachable_blocks(valid, valid.shape[1], is_causal=self.is_causal)
        with torch.no_grad():
            scores = self.router(merge_heads(query_BHND), merge_heads(key_BGND), key_mask_BN)
            order, kept = ordered_selection(
                scores, self.top_p, self.max_blocks, reach, window=self.rule.window
            )
        if self.is_counting:
            self._count(order, kept, reach, mask)
        mixed = gather_attention(
            query_BHND,
            key_BGND,
            value_BGNE,
            order,
            kept,
            mask,
            reach,
            block_size=self.rule.block_size,
            scale=self.scale,
            summaries=self.rule.summaries,
            is_causal=self.is_causal,
        )
        self.dropped = dropped_share(kept, valid)
        return self._correct(merge_heads(mixed), self.dropped)

    def _correct(self, output_BNC: Tensor, dropped_B: Tensor) -> Tensor:
        if self.correction.numel() == 1:
            return output_BNC
        return output_BNC + dropped_B[:, None, None] * self.correction

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # Its size depends on whether it was measured.
        stored = state_dict.get(f"{prefix}correction")
        if stored is not None:
            self.correction = torch.zeros_like(stored)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _count(self, order_BHQK: Tensor, kept_BHQK: Tensor, reach_B1QK: Tensor, mask_BN: Tensor) -> None:
        """Adds up real query-key pairs in whole blocks; of a causal own block half is counted."""
        selection = torch.zeros_like(kept_BHQK).scatter(-1, order_BHQK, kept_BHQK)
        self.selection = selection
        tokens = valid_counts(mask_BN, self.rule.block_size).double()
        pairs = tokens[:, None, :, None] * tokens[:, None, None, :] * reach_B1QK
        if self.is_causal:
            pairs = pairs * (1 - torch.eye(tokens.shape[1], dtype=torch.float64) / 2)
        self.kept_pairs += float((pairs * selection).sum())
        self.pairs += float(pairs.sum()) * self.heads

    def _count_tokens(self, allowed_NN: Tensor | None, length: int, mask_BN: Tensor | None) -> None:
        real = torch.ones(1, length) if mask_BN is None else mask_BN.float()
        pairs = torch.ones(length, length).tril() if self.is_causal else torch.ones(length, length)
        seen = pairs if allowed_NN is None else allowed_NN.float()
        self.kept_pairs += float(torch.einsum("bn,nm,bm->", real, seen, real)) * self.heads
        self.pairs += float(torch.einsum("bn,nm,bm->", real, pairs, real)) * self.heads

    def _emit(self, query_BNC: Tensor, key_BNC: Tensor, value_BNC: Tensor, mask_BN: Tensor | None) -> Tensor:
        """The operator; only inside an ONNX export."""
        block_scores = self.router(query_BNC, key_BNC, mask_BN)
        if mask_BN is None:
            mask_BN = torch.ones_like(key_BNC[..., 0], dtype=torch.bool)
        top_p, max_blocks = self.overrides or (self.top_p, self.max_blocks)
        output, selection = torch.onnx.ops.symbolic_multi_out(
            OPERATOR,
            (query_BNC, key_BNC, value_BNC, block_scores, top_p, max_blocks, mask_BN),
            {
                "num_heads": self.heads,
                "kv_num_heads": self.groups,
                "block_size": self.rule.block_size,
                "scale": self.scale,
                "window": self.rule.window,
                "summaries": int(self.rule.summaries),
                "is_causal": int(self.is_causal),
                "precision": "float32",
            },
            dtypes=(query_BNC.dtype, torch.bool),
            shapes=(self._output_shape(query_BNC, value_BNC), block_scores.shape),
            version=OPERATOR_VERSION,
        )
        self.selection = selection
        if self.correction.numel() == 1:
            return output
        return self._correct(output, dropped_share(selection, valid_blocks(mask_BN, self.rule.block_size)))

    def _emit_dense(
        self, query_BNC: Tensor, key_BNC: Tensor, value_BNC: Tensor, mask_BN: Tensor | None
    ) -> Tensor:
        """onnxruntime's fused attention, the dense rival to be fair to; causal and grouped heads unfused."""
        if self.is_causal or self.groups != self.heads:
            sizes = (self.heads, self.groups, self.groups)
            split = [split_heads(x, n) for x, n in zip((query_BNC, key_BNC, value_BNC), sizes, strict=True)]
            return self._dense(split[0], split[1], split[2], mask_BN)
        padding = None if mask_BN is None else mask_BN.to(torch.int32)
        return torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query_BNC, key_BNC, value_BNC, None, padding),
            {"num_heads": self.heads, "scale": self.scale},
            dtype=query_BNC.dtype,
            shape=self._output_shape(query_BNC, value_BNC),
            version=1,
        )

    def _output_shape(self, query_BNC: Tensor, value_BNC: Tensor) -> tuple[int | torch.SymInt, ...]:
        return (*query_BNC.shape[:2], value_BNC.shape[2] // self.groups * self.heads)

    def extra_repr(self) -> str:
        rule = self.rule
        return f"heads={self.heads}, block_size={rule.block_size}, window={rule.window}, mode={self.mode}"


def dropped_share(kept_BHQK: Tensor, valid_BK: Tensor) -> Tensor:
    """Share of pairs of real blocks that are left out, [B]; for attention to both sides."""
    kept = (kept_BHQK.sum(-1).float().mean(1) * valid_BK).sum(-1)
    return 1 - kept / valid_BK.sum(-1).clamp(min=1).float() ** 2


def band_mask(length: int, width: int, *, first: bool, is_causal: bool) -> Tensor:
    """Pairs at most `width` tokens apart, and the first token from everywhere if asked: bool [N, N]."""
    index = torch.arange(length)
    distance = index[:, None] - index
    allowed = distance.abs() <= width
    if first:
        allowed[:, 0] = True
    if is_causal:
        allowed &= distance >= 0
    return allowed
