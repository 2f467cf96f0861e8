"""A resumable state of training in one safetensors file: tensors as tensors, the rest as JSON metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgesparse_runtime.bundle.atomic import replace_bytes
from edgesparse_runtime.errors import InputError

FILE_NAME = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> None:
    """Write the checkpoint, whole or not at all.

    Args:
        average: running average of the weights, by parameter name.
        state: what else is needed, as plain values.
    """
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for name, parameter in model.named_parameters():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    write_tensors(folder / FILE_NAME, tensors, {"state": json.dumps(state)})


def load_checkpoint(
    folder: Path, model: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put the checkpoint's tensors in place and return its `state`.

    Raises:
        InputError: no checkpoint, damaged, or of another model.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise InputError(f"{folder} must hold a {FILE_NAME} to resume from; there is none.")
    tensors, metadata = read_tensors(path)
    try:
        model.load_state_dict(_part(tensors, "model."))
        for name, value in _part(tensors, "average.").items():
            average[name].copy_(value)
        for name, parameter in model.named_parameters():
            moments = {m: tensors[f"{m}.{name}"] for m in _MOMENTS if f"{m}.{name}" in tensors}
            if moments:
                optimizer.state[parameter] = moments
        state: dict[str, Any] = json.loads(metadata["state"])
    except (RuntimeError, KeyError, ValueError):
        raise InputError(f"{path} is a checkpoint of another model. Train into another folder.") from None
    return state


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    replace_bytes(path, save(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        InputError: missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            names = list(stream.keys())
            return {name: stream.get_tensor(name) for name in names}, stream.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Train again.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} must be a safetensors file; {error}. Train again.") from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
