"""Sparse layers on disk: routers, `top_p` and the rule, next to a model or inside its folder.

`model.save_pretrained(folder)` of a sparsified Hugging Face model writes the layers among its weights and the
rule into config.json, so nothing else needs saving; `from_pretrained` reads both. For any model,
`save_layers` writes a file of the layers alone. `load_layers` reads either into a model that was loaded the
usual way: no pass and no `sparsify` is needed before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.layers import dropin_layers, is_huggingface, layer_names
from edgesparse.dropin.pytorch import restore_pytorch
from edgesparse_runtime.errors import InputError

Model = TypeVar("Model", bound=nn.Module)
# A layer is the submodule of this name of its attention module, or one of those in the submodule.
_NAME = "edgesparse"


@dataclass(frozen=True)
class StoredLayers:
    """What a file or folder holds: the rule, and the state of each layer by its name in the model."""

    rule: DropinConfig
    states: Mapping[str, Mapping[str, Tensor]]


def save_layers(model: nn.Module, path: Path | str) -> None:
    """Write routers and knobs of a model as safetensors, the rule in its metadata.

    Raises:
        InputError: the model has no drop-in layers.
    """
    from safetensors.torch import save_file

    path = Path(path)
    names, layers = layer_names(model), dropin_layers(model)
    if not layers:
        raise InputError("`model` must have drop-in layers; it has none. Call `edgesparse.sparsify` first.")
    tensors: dict[str, Tensor] = {}
    for name, layer in zip(names, layers, strict=True):
        tensors |= {f"{name}.{key}": value.contiguous() for key, value in layer.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"rule": json.dumps(layers[0].rule.to_dict())})


def load_layers(model: Model, path: Path | str) -> Model:
    """Give a model the sparse layers that were saved, in place of any it has.

    Args:
        path: what `save_layers` wrote, or the folder that `save_pretrained` wrote.

    Returns:
        The model that was given.

    Raises:
        InputError: no such file, no sparse layers in it, or layers of another model. The model is as
            it was.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    stored = _read_folder(path) if path.is_dir() else _read_file(path)
    try:
        if is_huggingface(model):
            from edgesparse.dropin.huggingface import restore_huggingface

            names = {name.removesuffix(f".{_NAME}"): state for name, state in stored.states.items()}
            restore_huggingface(cast("Any", model), stored.rule, names)
        else:
            places = {name.removeprefix(f"{_NAME}."): state for name, state in stored.states.items()}
            restore_pytorch(model, stored.rule, places)
    except InputError as error:
        raise InputError(f"{path} belongs to another model. {error}") from None
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{path} must hold whole drop-in layers; {line}") from None
    return model


def from_pretrained(kind: Any, folder: Path | str, **options: Any) -> Any:
    """A sparse Hugging Face model from the folder that its `save_pretrained` wrote, in float32.

    Args:
        kind: the class to load with, `transformers.AutoModel` for one.
        options: of its `from_pretrained`.

    Raises:
        InputError: the folder holds no sparse layers.
    """
    # Registers the implementation that the folder's config.json names.
    import edgesparse.dropin.huggingface  # noqa: F401

    model = kind.from_pretrained(folder, **{"dtype": torch.float32, **options})
    return load_layers(model.eval(), folder)


def _read_file(path: Path) -> StoredLayers:
    tensors, metadata = _read_safetensors(path)
    try:
        rule = DropinConfig.from_dict(json.loads(metadata["rule"]))
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{path} must be written by `save_layers`; it names no rule.") from None
    return StoredLayers(rule, _by_layer(tensors))


def _read_folder(folder: Path) -> StoredLayers:
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= _read_safetensors(file, only=f"{_NAME}.")[0]
    states = _by_layer(tensors)
    try:
        rule = _find_rule(json.loads((folder / "config.json").read_text("utf-8")))
    except (OSError, ValueError):
        rule = None
    if rule is None or not states:
        raise InputError(
            f"{folder} must be written by `save_pretrained` of a sparsified model; it holds no sparse layers."
        )
    return StoredLayers(DropinConfig.from_dict(rule), states)


def _read_safetensors(path: Path, only: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {n: file.get_tensor(n) for n in file.keys() if only in n}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} must be whole safetensors; {error}") from None


def _find_rule(config: Any) -> dict[str, Any] | None:
    """The first rule in a configuration or those that it holds."""
    if not isinstance(config, dict):
        return None
    if isinstance(config.get(_NAME), dict):
        return dict(config[_NAME])
    return next((rule for x in config.values() if (rule := _find_rule(x)) is not None), None)


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """`<layer>.<key of its state>` sorted into layers; other names are of the model."""
    known = DropinAttention(
        DropinConfig(), heads=1, groups=1, head_size=1, scale=1.0, is_causal=False
    ).state_dict()
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        key = next((key for key in known if name.endswith(f".{key}")), None)
        if key is not None and f".{_NAME}." in f".{name}":
            states.setdefault(name.removesuffix(f".{key}"), {})[key] = value
    return states
