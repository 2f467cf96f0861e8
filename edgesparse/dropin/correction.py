"""The mean that sparse attention gets wrong, measured and given back.

A summary token takes less mass than the tokens that it replaces (the exponential of a mean lies below the
mean of exponentials), so errors of dropped blocks lean to one side. Their mean over tokens is one vector per
layer; adding it costs one addition. It is scaled by the share of blocks that an input drops, so an input that
keeps all is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgesparse.attention.record import AttentionRecord
from edgesparse.dropin.attention import DropinAttention, dropped_share
from edgesparse.dropin.layers import attention_mode, dropin_layers
from edgesparse.dropin.outputs import Batch, run_model

# Batches that the mean is taken over: it has one entry per channel, and many tokens per batch.
BATCHES = 16


def correct_means(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Set `correction` of every layer that is not causal, one after the other: each sees those before it.

    Not causal ones: their first tokens drop nothing whatever the rest of the input does.
    """
    layers = [layer for layer in dropin_layers(model) if not layer.is_causal]
    clear_corrections(model)
    batches = batches[:BATCHES]
    with attention_mode(model, "dense"):
        wanted = [total for total, _ in _totals(model, batches, layers)]
    for layer, dense in zip(layers, wanted, strict=True):
        with attention_mode(model, "sparse"):
            sparse, dropped = _totals(model, batches, [layer])[0]
        if dropped > 0:
            layer.correction = ((dense - sparse) / dropped).float()


def clear_corrections(model: nn.Module) -> None:
    """Take all corrections away."""
    for layer in dropin_layers(model):
        layer.correction = torch.zeros(1)


class _Enough(Exception):
    """The pass has given all that it was made for."""


def _totals(
    model: nn.Module, batches: Sequence[Batch], layers: Sequence[DropinAttention]
) -> list[tuple[Tensor, float]]:
    """Sums of each layer's output over real tokens [C], and of the share of blocks that they drop."""
    found: dict[int, tuple[Tensor, float]] = {}

    def add(layer: nn.Module, inputs: Any, result: tuple[Tensor, AttentionRecord]) -> None:
        output, record = result
        mask = record.key_mask
        total, dropped = found.get(id(layer), (torch.zeros(output.shape[-1], dtype=torch.float64), 0.0))
        is_dense = record.selection is None
        share = 0.0 if is_dense else float((dropped_share(record) * mask.sum(-1)).sum())
        found[id(layer)] = total + (output.double() * mask[..., None]).sum((0, 1)), dropped + share
        if layer is layers[-1]:
            raise _Enough

    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        for batch in batches:
            try:
                run_model(model, batch)
            except _Enough:
                continue
    finally:
        for hook in hooks:
            hook.remove()
    return [found[id(layer)] for layer in layers]
