"""What each head's router does: density, entropy and captured mass, so that no collapse goes unnoticed.

Shapes: `B` batch, `N` tokens, `H` heads, `Q`/`K` query and key blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from edgesparse.attention.heads import split_heads
from edgesparse.attention.layer import SparseAttention
from edgesparse.attention.record import AttentionRecord
from edgesparse.attention.router import true_block_mass
from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.budget import recording, sparse_layers

# Query blocks per window whose true mass is computed: each costs a row of dense attention.
SAMPLED_BLOCKS = 4
# A router whose entropy is above this share of the largest possible has no preference.
NO_PREFERENCE = 0.999
# Density within this of the window's alone: the head selects nothing else.
ONLY_WINDOW = 0.005

# Captured mass below this share of the density is worse than chance, sampling aside.
CHANCE = 0.9


@dataclass(frozen=True)
class HeadStats:
    """One head of one layer, measured on some windows.

    Attributes:
        density: share of the (query block, key block) pairs in reach that it attends to.
        entropy: of the router's shares over the blocks in reach; 1 = all equal, 0 = one block only.
        captured_mass: share of dense attention's mass that lies on the blocks it keeps. Random blocks would
            capture about `density`; a head whose attention is spread evenly captures no more than that.
        window: density of the blocks that are always kept.
    """

    layer: int
    head: int
    density: float
    entropy: float
    captured_mass: float
    window: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def warning(self) -> str | None:
        """Why this head looks collapsed, or None."""
        where = f"layer {self.layer}, head {self.head}"
        if self.entropy > NO_PREFERENCE and self.density < 1.0:
            return f"{where}: the router has no preference (entropy {self.entropy:.4f})"
        if self.density < 1.0 and self.density <= self.window + ONLY_WINDOW:
            return f"{where}: it keeps its local window only (density {self.density:.1%})"
        if self.density < 1.0 and self.captured_mass < CHANCE * self.density:
            return (
                f"{where}: its blocks capture less of dense attention than random blocks would "
                f"({self.captured_mass:.1%} at density {self.density:.1%})"
            )
        return None


def head_stats(model: SequenceTransformer, windows: Iterable[Tensor]) -> list[HeadStats]:
    """Measure every head of every sparse layer; the model is left as it was.

    Args:
        windows: raw windows [1, C, T] each: one at a time, since the true mass of many is large.
    """
    layers = sparse_layers(model)
    if not layers:
        return []
    kept = [_Sums(layer) for layer in layers]
    hooks = [layer.register_forward_hook(sums.add) for layer, sums in zip(layers, kept, strict=True)]
    try:
        with recording(model):
            for window in windows:
                model(window)
    finally:
        for hook in hooks:
            hook.remove()
    return [head for i, sums in enumerate(kept) for head in sums.heads(i)]


def as_log_line(heads: list[HeadStats]) -> dict[str, list[list[float]]]:
    """Density, entropy and captured mass, one list per layer."""
    layers = sorted({head.layer for head in heads})
    return {
        name: [[round(getattr(h, name), 4) for h in heads if h.layer == layer] for layer in layers]
        for name in ("density", "entropy", "captured_mass")
    }


class _Sums:
    """Collects one layer's figures over windows."""

    def __init__(self, layer: SparseAttention) -> None:
        heads = layer.config.num_heads
        self.density, self.entropy, self.captured_mass = (
            torch.zeros(heads, dtype=torch.float64) for _ in range(3)
        )
        self.pairs = self.rows = self.sampled = self.window = 0.0

    def add(
        self, layer: SparseAttention, inputs: tuple[Any, ...], output: tuple[Tensor, AttentionRecord]
    ) -> None:
        """A forward hook."""
        cfg, router, record = layer.config, layer.router, output[1]
        assert router is not None and record.selection is not None
        x_BNC, mask_BN = inputs[0], inputs[1] if len(inputs) > 1 else None
        query, key, _ = layer.project_in(x_BNC).split(
            [cfg.width, cfg.groups * cfg.head_size, cfg.groups * cfg.head_size], dim=-1
        )
        selection, reach = record.selection, record.reach
        self.density += selection.sum((0, 2, 3)).double()
        self.pairs += float(reach.sum())
        index = torch.arange(reach.shape[-1])
        near = index[:, None] - index
        band = (near <= cfg.window) & (near >= (0 if cfg.is_causal else -cfg.window))
        self.window += float((reach & band).sum())
        self._add_entropy(router(query, key, mask_BN), reach)
        whole = x_BNC.shape[1] // cfg.block_size
        if whole == 0:
            return
        sample = torch.linspace(0, whole - 1, min(SAMPLED_BLOCKS, whole)).long()
        mass = true_block_mass(
            split_heads(query, cfg.num_heads),
            split_heads(key, cfg.groups),
            sample,
            torch.ones_like(x_BNC[..., 0], dtype=torch.bool) if mask_BN is None else mask_BN,
            block_size=cfg.block_size,
            scale=layer.scale,
            is_causal=cfg.is_causal,
        )
        real = (mass.sum(-1) > 0.5).any(1, keepdim=True)
        self.captured_mass += (mass * selection[:, :, sample] * real[..., None]).sum((0, 2, 3)).double()
        self.sampled += float(real.sum())

    def _add_entropy(self, scores_BHQK: Tensor, reach_B1QK: Tensor) -> None:
        seen = reach_B1QK & ~torch.isneginf(scores_BHQK)
        share = scores_BHQK.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(0.0)
        entropy = -(share * share.clamp(min=1e-12).log()).sum(-1)
        choices = seen.sum(-1)
        # One block in reach is no choice.
        rows = (choices > 1).to(entropy.dtype)
        most = choices.clamp(min=2).to(entropy.dtype).log()
        self.entropy += (rows * entropy / most).sum((0, 2)).double()
        self.rows += float(rows[:, 0].sum())

    def heads(self, layer: int) -> list[HeadStats]:
        return [
            HeadStats(
                layer=layer,
                head=h,
                density=float(self.density[h]) / max(self.pairs, 1.0),
                entropy=float(self.entropy[h]) / max(self.rows, 1.0),
                captured_mass=float(self.captured_mass[h]) / max(self.sampled, 1.0),
                window=self.window / max(self.pairs, 1.0),
            )
            for h in range(len(self.density))
        ]
