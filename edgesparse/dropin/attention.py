"""One attention layer of somebody else's model: receives query, key and value, computes as its mode says.

Shapes: `B` batch, `N` tokens, `H` heads, `G` key/value heads, `D`/`E` head size of keys/values, `Q`/`K`
query and key blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from edgesparse.attention.attributes import Attributes, WindowAttributes
from edgesparse.attention.core import BlockAttention, WindowCore
from edgesparse.attention.heads import merge_heads
from edgesparse.attention.record import AttentionRecord
from edgesparse.attention.selection import valid_blocks, valid_counts
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.observations import Observation, make_observation
from edgesparse.dropin.router import DropinRouter
from edgesparse.dropin.sampled_router import SampledRouter
from edgesparse.dropin.window import text_starts
from edgesparse_runtime.errors import InputError

Mode = Literal["sparse", "dense", "collect", "band", "exact"]


class DropinAttention(BlockAttention):
    """Attention over the blocks that a router selects, in place of a model's own.

    A layer that was not calibrated keeps every block, which is dense attention.

    Attributes:
        mode: "sparse" follows the rule, "dense" computes everything, "collect" computes everything and
            keeps what a router learns from in `observations`, "band" sees `band_width` tokens to each side
            (and the first token, with `band_first`): the plain rival. "exact" computes everything too, in
            blocks: nothing of all pairs is held, and packed texts stay apart.
        kept_pairs: query-key pairs attended to since `reset_count`, and `pairs` all of them.
    """

    kind: Tensor
    correction: Tensor
    cap_length: Tensor

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
        attributes = Attributes(
            num_heads=heads,
            kv_num_heads=groups,
            block_size=rule.block_size,
            scale=scale,
            window=rule.window,
            summaries=int(rule.summaries),
            is_causal=int(is_causal),
        )
        super().__init__(attributes, head_size, zero_empty=True)
        self.rule = rule
        self.router: DropinRouter | SampledRouter
        if rule.sampled_queries:
            self.router = SampledRouter(
                heads, groups, rule.block_size, queries=rule.sampled_queries, scale=scale, is_causal=is_causal
            )
        else:
            self.router = DropinRouter(
                heads, groups, head_size, rule.block_size, scale=scale, is_causal=is_causal
            )
        self.add_knobs()
        # What the shapes of the others do not say: a layer can be made from its state (`from_state`).
        self.register_buffer("kind", torch.tensor([scale, float(is_causal)]))
        self.register_buffer("sizes", torch.tensor([heads, groups, head_size]))
        # [H*E] once it was measured (`correct_means`).
        self.register_buffer("correction", torch.zeros(1))
        # Key blocks of the input that `max_blocks` was chosen for; 0 = it holds at every length.
        self.register_buffer("cap_length", torch.zeros(1, dtype=torch.int64))
        self._cap_length = 0
        self.window_core = WindowCore()
        self.mode: Mode = "sparse"
        self.band_width, self.band_first = 0, False
        self.observations: list[Observation] = []
        self.is_counting = False
        self.reset_count()

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.attributes.num_heads

    @property
    def groups(self) -> int:
        """Key/value heads."""
        return self.attributes.kv_num_heads

    @property
    def is_causal(self) -> bool:
        """Tokens see the past only."""
        return bool(self.attributes.is_causal)

    @classmethod
    def from_state(cls, rule: DropinConfig, state: Mapping[str, Tensor]) -> DropinAttention:
        """The layer whose `state_dict` this is, without gradients.

        Raises:
            KeyError, RuntimeError: it is none.
        """
        scale, causal = state["kind"].tolist()
        heads, groups, head_size = _sizes(state).tolist()
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
            self.attributes = replace(self.attributes, scale=scale)
            return True
        return False

    def set_cap_length(self, key_blocks: int) -> None:
        """Let `max_blocks` grow in proportion beyond inputs of so many blocks; 0 = it never grows."""
        self.cap_length.fill_(key_blocks)
        # As an integer: an export traces without values.
        self._cap_length = key_blocks

    def reset_count(self) -> None:
        """Start the count of pairs anew."""
        self.kept_pairs, self.pairs = 0.0, 0.0

    def forward(
        self, query_BHND: Tensor, key_BGND: Tensor, value_BGNE: Tensor, key_mask_BN: Tensor | None
    ) -> tuple[Tensor, AttentionRecord]:
        """Token-major output [B, N, H*E], and what the pass did.

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
        query, key, value = (merge_heads(x) for x in (query_BHND, key_BGND, value_BGNE))
        if self.mode == "sparse":
            with torch.no_grad():
                scores = self.router(query, key, key_mask_BN)
            cap = self._max_blocks(scores.shape[-1])
            mixed, record = self.attend(query, key, value, scores, key_mask_BN, max_blocks=cap)
            if self.is_counting:
                self._count_blocks(record)
            if self.correction.numel() > 1:
                mixed = mixed + dropped_share(record)[:, None, None] * self.correction
            return mixed, record
        if self.mode == "exact":
            return self._attend_exactly(query, key, value, key_mask_BN)
        band: Tensor | None = None
        if self.mode == "band":
            length = query.shape[1]
            band = band_mask(length, self.band_width, first=self.band_first, is_causal=self.is_causal)
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
        if self.is_counting:
            self._count_tokens(band, query.shape[1], key_mask_BN)
        return self.attend_densely(query, key, value, key_mask_BN, band_NN=band)

    def _attend_exactly(
        self, query_BNC: Tensor, key_BNC: Tensor, value_BNC: Tensor, key_mask_BN: Tensor | None
    ) -> tuple[Tensor, AttentionRecord]:
        """Attention to every token of the same text, as a window without bounds."""
        if key_mask_BN is None:
            key_mask_BN = torch.ones_like(key_BNC[..., 0], dtype=torch.bool)
        a = WindowAttributes(self.heads, self.groups, self.scale, right_window=0 if self.is_causal else -1)
        mixed = self.window_core(
            query_BNC, key_BNC, value_BNC, key_mask_BN, text_starts(query_BNC), attributes=a
        )
        return mixed, AttentionRecord(self.attributes, self.head_size, key_mask_BN)

    def _max_blocks(self, key_blocks: int) -> Tensor:
        """`max_blocks` at this length: without growth, density would fall as inputs get longer."""
        if not self._cap_length:
            return self.max_blocks
        # Not the built-in `max`, which an export could not keep open.
        longer = torch.sym_max(key_blocks, self._cap_length)  # type: ignore[no-untyped-call]
        grown: Tensor = self.max_blocks * longer
        # Rounded up.
        return torch.div(grown + (self._cap_length - 1), self._cap_length, rounding_mode="floor")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # Its size depends on whether it was measured.
        stored = state_dict.get(f"{prefix}correction")
        if stored is not None:
            self.correction = torch.zeros_like(stored)
        # Layers saved before version 0.2 have a cap that holds at every length.
        length = state_dict.setdefault(f"{prefix}cap_length", torch.zeros(1, dtype=torch.int64))
        self._cap_length = int(length)
        if f"{prefix}sizes" not in state_dict and f"{prefix}router.query_weight" in state_dict:
            state_dict[f"{prefix}sizes"] = _sizes(
                {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _count_blocks(self, record: AttentionRecord) -> None:
        """Adds up real query-key pairs in whole blocks; of a causal diagonal block half is counted."""
        assert record.selection is not None
        tokens = valid_counts(record.key_mask, self.rule.block_size).double()
        pairs = tokens[:, None, :, None] * tokens[:, None, None, :] * record.reach
        if self.is_causal:
            pairs = pairs * (1 - torch.eye(tokens.shape[1], dtype=torch.float64) / 2)
        self.kept_pairs += float((pairs * record.selection).sum())
        self.pairs += float(pairs.sum()) * self.heads

    def _count_tokens(self, band_NN: Tensor | None, length: int, mask_BN: Tensor | None) -> None:
        """Adds up real query-key pairs of dense attention, or of those in the band."""
        real = torch.ones(1, length) if mask_BN is None else mask_BN.float()
        pairs = torch.ones(length, length).tril() if self.is_causal else torch.ones(length, length)
        seen = pairs if band_NN is None else band_NN.float()
        self.kept_pairs += float(torch.einsum("bn,nm,bm->", real, seen, real)) * self.heads
        self.pairs += float(torch.einsum("bn,nm,bm->", real, pairs, real)) * self.heads

    def extra_repr(self) -> str:
        rule = self.rule
        return f"heads={self.heads}, block_size={rule.block_size}, window={rule.window}, mode={self.mode}"


def _sizes(state: Mapping[str, Tensor]) -> Tensor:
    """Query heads, key/value heads and head size; of layers that did not store them, by their router."""
    if "sizes" in state:
        return state["sizes"]
    heads, head_size, _ = state["router.query_weight"].shape
    return torch.tensor([heads, len(state["router.key_weight"]), head_size])


def dropped_share(record: AttentionRecord) -> Tensor:
    """Share of pairs of real blocks that a pass left out, [B]; for attention to both sides."""
    assert record.selection is not None
    valid = valid_blocks(record.key_mask, record.attributes.block_size)
    kept = (record.selection.sum(-1).float().mean(1) * valid).sum(-1)
    return 1 - kept / valid.sum(-1).clamp(min=1).float() ** 2


def band_mask(length: int, width: int, *, first: bool, is_causal: bool) -> Tensor:
    """Pairs at most `width` tokens apart, and the first token from everywhere with `first`: bool [N, N]."""
    index = torch.arange(length)
    distance = index[:, None] - index
    allowed = distance.abs() <= width
    if first:
        allowed[:, 0] = True
    if is_causal:
        allowed &= distance >= 0
    return allowed
