"""While a model is exported, modules that emit our operators stand where it computes.

The trained modules stay as they are: each is taken out for the time of the export only. The rules:

1. `FilterBank` becomes `edgesparse::FilterBank`, `CompetingFilters` its namesake.
2. `Router` becomes `edgesparse::BlockScores`. A `DropinRouter` does not: it adds biases that the operator
   lacks, and is exported in standard operators. A `SampledRouter` becomes `edgesparse::SampledScores`, whose
   body is the router itself (`dropin/sampled_scores.py`).
3. The sparse core of an attention layer becomes `edgesparse::SparseAttention`.
4. Its dense core becomes `com.microsoft::MultiHeadAttention`, onnxruntime's fused attention: the fastest
   dense rival on a CPU, and the one to be fair to. Causal attention, grouped heads and, without
   `fuse_masked`, attention with padding stay in standard operators.

5. Exact attention within windows and packed texts (`WindowCore`) becomes `edgesparse::WindowAttention`.

Shapes: `B` batch, `C` channels, `T` steps, `N` tokens, `H`/`G` query and key/value heads, `D` head size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from edgesparse.attention.attributes import Attributes, WindowAttributes
from edgesparse.attention.core import DenseCore, SparseCore, WindowCore
from edgesparse.attention.router import Router
from edgesparse.attention.selection import block_count
from edgesparse.dropin.sampled_router import SampledRouter
from edgesparse.model.competing_filters import CompetingFilters
from edgesparse.model.filter_bank import LENGTH, FilterBank
from edgesparse_export.functions.domain import DOMAIN, VERSION

SAMPLED = "SampledScores"


class BankOperator(nn.Module):
    """Emits `edgesparse::FilterBank` in place of a `FilterBank`."""

    weight: Tensor
    slope: Tensor
    offset: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, bank: FilterBank) -> None:
        super().__init__()
        self.patch, self.dilations, self.features = bank.patch, bank.dilations, bank.features
        self.before = LENGTH - 1 if bank.is_causal else LENGTH // 2
        self.register_buffer("weight", bank.weight)
        self.register_buffer("slope", bank.slope)
        # (response - threshold) * slope + 1/2 as one multiply-add.
        self.register_buffer("offset", 0.5 - bank.threshold * bank.slope[..., None])
        self.register_buffer("center", bank.center)
        self.register_buffer("spread", bank.spread)

    def forward(self, normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        """Features [B, F, N]; the operator gives [B, N, F], and the exporter folds the two transposes."""
        if real_BT is None:
            real_BT = torch.ones_like(normal_BCT[:, 0], dtype=torch.bool)
        tokens = block_count(normal_BCT.shape[2], self.patch)
        features: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::FilterBank",
            (normal_BCT, real_BT, self.weight, self.slope, self.offset, self.center, self.spread),
            {"dilations": list(self.dilations), "patch": self.patch, "before": self.before},
            dtype=normal_BCT.dtype,
            shape=(normal_BCT.shape[0], tokens, self.features),
            version=VERSION,
        )
        return features.mT


class CompetingOperator(nn.Module):
    """Emits `edgesparse::CompetingFilters` in place of `CompetingFilters`."""

    weight: Tensor
    sharpness: Tensor

    def __init__(self, filters: CompetingFilters) -> None:
        super().__init__()
        self.dilations, self.features = filters.dilations, filters.features
        self.register_buffer("weight", filters.weight)
        self.register_buffer("sharpness", filters.sharpness)

    def forward(self, normal_BCT: Tensor, real_BT: Tensor | None) -> Tensor:
        """Features [B, F]."""
        if real_BT is None:
            real_BT = torch.ones_like(normal_BCT[:, 0], dtype=torch.bool)
        features: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::CompetingFilters",
            (normal_BCT, real_BT, self.weight, self.sharpness),
            {"dilations": list(self.dilations)},
            dtype=normal_BCT.dtype,
            shape=(normal_BCT.shape[0], self.features),
            version=VERSION,
        )
        return features


class RouterOperator(nn.Module):
    """Emits `edgesparse::BlockScores` in place of a `Router`."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.router = router

    def forward(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> Tensor:
        """Block scores [B, H, K, K]."""
        router = self.router
        if key_mask_BN is None:
            key_mask_BN = torch.ones_like(key_BNC[..., 0], dtype=torch.bool)
        blocks = block_count(query_BNC.shape[1], router.block_size)
        scores: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::BlockScores",
            (query_BNC, key_BNC, router.query_weight, router.key_weight, key_mask_BN),
            {
                "num_heads": router.heads,
                "kv_num_heads": router.groups,
                "block_size": router.block_size,
                "is_causal": int(router.is_causal),
            },
            dtype=query_BNC.dtype,
            shape=(query_BNC.shape[0], router.heads, blocks, blocks),
            version=VERSION,
        )
        return scores


class SampledOperator(nn.Module):
    """Emits `edgesparse::SampledScores` in place of a `SampledRouter`."""

    def __init__(self, router: SampledRouter) -> None:
        super().__init__()
        self.router = router

    def forward(self, query_BNC: Tensor, key_BNC: Tensor, key_mask_BN: Tensor | None) -> Tensor:
        """Block scores [B, H, K, K]."""
        router = self.router
        if key_mask_BN is None:
            key_mask_BN = torch.ones_like(key_BNC[..., 0], dtype=torch.bool)
        blocks = block_count(query_BNC.shape[1], router.block_size)
        scores: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{SAMPLED}",
            (query_BNC, key_BNC, key_mask_BN),
            {
                "num_heads": router.heads,
                "kv_num_heads": router.groups,
                "block_size": router.block_size,
                "queries": router.queries,
                "scale": router.scale,
                "is_causal": int(router.is_causal),
            },
            dtype=query_BNC.dtype,
            shape=(query_BNC.shape[0], router.heads, blocks, blocks),
            version=VERSION,
        )
        return scores


class AttentionOperator(nn.Module):
    """Emits `edgesparse::SparseAttention` in place of a `SparseCore`."""

    def forward(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        block_scores_BHQK: Tensor,
        top_p: Tensor,
        max_blocks: Tensor,
        key_mask_BN: Tensor,
        *,
        attributes: Attributes,
    ) -> tuple[Tensor, Tensor]:
        """Output [B, N, H*E] and selection."""
        output, selection = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::SparseAttention",
            (query_BNC, key_BNC, value_BNC, block_scores_BHQK, top_p, max_blocks, key_mask_BN),
            {**attributes.to_node()},
            dtypes=(query_BNC.dtype, torch.bool),
            shapes=(_output_shape(query_BNC, value_BNC, attributes), block_scores_BHQK.shape),
            version=VERSION,
        )
        return output, selection


class WindowOperator(nn.Module):
    """Emits `edgesparse::WindowAttention` in place of a `WindowCore`."""

    def forward(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        key_mask_BN: Tensor,
        starts_S: Tensor,
        *,
        attributes: WindowAttributes,
    ) -> Tensor:
        """Output [B, N, H*E]."""
        output: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::WindowAttention",
            (query_BNC, key_BNC, value_BNC, key_mask_BN, starts_S),
            {**attributes.to_node()},
            dtype=query_BNC.dtype,
            shape=_output_shape(query_BNC, value_BNC, attributes),
            version=VERSION,
        )
        return output


class DenseOperator(nn.Module):
    """Emits fused dense attention in place of a `DenseCore`, by rule 4."""

    def __init__(self, core: DenseCore, *, fuse_masked: bool) -> None:
        super().__init__()
        self.core, self.fuse_masked = core, fuse_masked

    def forward(
        self,
        query_BNC: Tensor,
        key_BNC: Tensor,
        value_BNC: Tensor,
        key_mask_BN: Tensor | None,
        *,
        attributes: Attributes,
        band_NN: Tensor | None = None,
    ) -> Tensor:
        """Output [B, N, H*E]."""
        a = attributes
        is_plain = not a.is_causal and a.num_heads == a.kv_num_heads and band_NN is None
        if not is_plain or (key_mask_BN is not None and not self.fuse_masked):
            mixed: Tensor = self.core(
                query_BNC, key_BNC, value_BNC, key_mask_BN, attributes=attributes, band_NN=band_NN
            )
            return mixed
        padding = () if key_mask_BN is None else (None, key_mask_BN.to(torch.int32))
        fused: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query_BNC, key_BNC, value_BNC, *padding),
            {"num_heads": a.num_heads, "scale": a.scale},
            dtype=query_BNC.dtype,
            shape=_output_shape(query_BNC, value_BNC, attributes),
            version=1,
        )
        return fused


def _output_shape(
    query_BNC: Tensor, value_BNC: Tensor, attributes: Attributes | WindowAttributes
) -> tuple[int | torch.SymInt, ...]:
    width = value_BNC.shape[2] // attributes.kv_num_heads * attributes.num_heads
    return (*query_BNC.shape[:2], width)


@contextlib.contextmanager
def operators_in_place(model: nn.Module, *, fuse_masked: bool = False) -> Iterator[None]:
    """Puts modules that emit in the places that the rules name; puts the model's own back at the end."""
    taken: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            emitter = _emitter(child, fuse_masked=fuse_masked)
            if emitter is not None:
                taken.append((parent, name, child))
                setattr(parent, name, emitter.train(child.training))
    try:
        yield
    finally:
        for parent, name, child in taken:
            setattr(parent, name, child)


def _emitter(module: nn.Module, *, fuse_masked: bool) -> nn.Module | None:
    """What takes this module's place; None = it stays."""
    if isinstance(module, FilterBank):
        return BankOperator(module)
    if isinstance(module, CompetingFilters):
        return CompetingOperator(module)
    # Not a subclass: rule 2.
    if type(module) is Router:
        return RouterOperator(module)
    if isinstance(module, SampledRouter):
        return SampledOperator(module)
    if isinstance(module, SparseCore):
        return AttentionOperator()
    if isinstance(module, WindowCore):
        return WindowOperator()
    if isinstance(module, DenseCore):
        return DenseOperator(module, fuse_masked=fuse_masked)
    return None
