"""The drop-in layers of a model: found, switched, counted, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from edgesparse.dropin.attention import DropinAttention, Mode
from edgesparse_runtime.errors import InputError


def dropin_layers(model: nn.Module) -> list[DropinAttention]:
    """The model's drop-in layers, in the order of its modules."""
    return [m for m in model.modules() if isinstance(m, DropinAttention)]


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
    model.eval()
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


def counted_density(model: nn.Module) -> float:
    """Share of query-key pairs that was attended to since the count was started."""
    layers = dropin_layers(model)
    return sum(x.kept_pairs for x in layers) / max(sum(x.pairs for x in layers), 1.0)


def save_layers(model: nn.Module, path: Path) -> None:
    """Write routers and knobs of a model as safetensors, the rule in its metadata."""
    from safetensors.torch import save_file

    names, layers = layer_names(model), dropin_layers(model)
    if not layers:
        raise InputError("`model` must have drop-in layers; it has none. Call `edgesparse.sparsify` first.")
    tensors: dict[str, Tensor] = {}
    for name, layer in zip(names, layers, strict=True):
        tensors |= {f"{name}.{key}": value.contiguous() for key, value in layer.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"rule": json.dumps(layers[0].rule.to_dict())})


def load_layers(model: nn.Module, path: Path) -> None:
    """Read what `save_layers` wrote into a model that has the same layers.

    Raises:
        InputError: no such file, or layers of other names or shapes.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path} must be a file of drop-in layers; there is nothing of that name.")
    tensors = load_file(path)
    for name, layer in zip(layer_names(model), dropin_layers(model), strict=True):
        own = {key: tensors.pop(f"{name}.{key}", None) for key in layer.state_dict()}
        missing = [key for key, value in own.items() if value is None]
        if missing:
            raise InputError(
                f"{path} must hold {name}.{missing[0]}; it does not. It belongs to another model."
            )
        layer.load_state_dict({key: value for key, value in own.items() if value is not None})
    if tensors:
        raise InputError(f"{path} holds {next(iter(tensors))}, which the model does not have.")
