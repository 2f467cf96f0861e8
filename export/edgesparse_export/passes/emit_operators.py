"""While a model is exported, its stem and routers are replaced by modules that emit our operators.

The trained modules stay as they are: each is taken out for the time of the export only.

Shapes: `B` batch, `C` channels, `T` steps, `N` tokens, `H`/`G` query and key/value heads, `D` head size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from edgesparse.attention.router import Router
from edgesparse.attention.selection import block_count
from edgesparse.model.filter_bank import LENGTH, FilterBank
from edgesparse_export.functions.sparse_attention import DOMAIN, VERSION


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


@contextlib.contextmanager
def operators_in_place(model: nn.Module) -> Iterator[None]:
    """Replaces every `FilterBank` and `Router` of `model`; puts them back at the end."""
    taken: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            emitter: nn.Module | None = None
            if type(child) is FilterBank:
                emitter = BankOperator(child)
            elif type(child) is Router:
                emitter = RouterOperator(child)
            if emitter is not None:
                taken.append((parent, name, child))
                setattr(parent, name, emitter.train(child.training))
    try:
        yield
    finally:
        for parent, name, child in taken:
            setattr(parent, name, child)
