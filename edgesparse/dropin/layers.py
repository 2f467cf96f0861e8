"""The drop-in layers of a model: found, switched and counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from edgesparse.dropin.attention import DropinAttention, Mode
from edgesparse.dropin.window import WindowedAttention
from edgesparse_runtime.errors import InputError


def dropin_layers(model: nn.Module) -> list[DropinAttention]:
    """The model's drop-in layers, in the order of its modules."""
    return [m for m in model.modules() if isinstance(m, DropinAttention)]


def window_layers(model: nn.Module) -> list[WindowedAttention]:
    """The model's layers with a sliding window that a pass has met."""
    return [m for m in model.modules() if isinstance(m, WindowedAttention)]


def layer_names(model: nn.Module) -> list[str]:
    """Names of the same."""
    return [name for name, m in model.named_modules() if isinstance(m, DropinAttention)]


@contextmanager
def attention_mode(
    model: nn.Module, mode: Mode, *, band_width: int = 0, band_first: bool = False
) -> Iterator[None]:
    """Evaluate without gradients, with every drop-in layer in this mode and its pairs counted."""
    layers, was_training = dropin_layers(model), model.training
    before = [(layer.mode, layer.is_counting) for layer in layers]
    windows = [(layer, layer.mode) for layer in window_layers(model)]
    model.eval()
    for window, _ in windows:
        window.mode = mode
    for layer in layers:
        layer.mode, layer.is_counting = mode, True
        layer.band_width, layer.band_first = band_width, band_first
        layer.reset_count()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
        for layer, (old, counting) in zip(layers, before, strict=True):
            layer.mode, layer.is_counting = old, counting
        for window, before_that in windows:
            window.mode = before_that


def counted_density(model: nn.Module) -> float:
    """Share of query-key pairs that was attended to since the count was started."""
    layers = dropin_layers(model)
    return sum(x.kept_pairs for x in layers) / max(sum(x.pairs for x in layers), 1.0)


def is_huggingface(model: nn.Module) -> bool:
    """Whether this is a model of transformers, which has then been imported by whoever made it."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(model, transformers.PreTrainedModel)


def require_float32(model: nn.Module) -> None:
    """Refuse a model whose weights are not float32.

    Raises:
        InputError: half or double precision.
    """
    other = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
    if other:
        name = str(other.pop()).removeprefix("torch.")
        raise InputError(
            f"`model` must be in float32; got {name}. Call `model.float()` first, or load it with "
            "dtype=torch.float32."
        )
