"""Running somebody else's model: what a batch is, what its main output is, how near two outputs are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgesparse_runtime.errors import EdgeSparseError, InputError

# A batch is a tensor, or the model's keyword arguments.
Batch = Tensor | Mapping[str, Tensor]
# In this order: an encoder's states, a decoder's or classifier's scores.
_MAIN = ("last_hidden_state", "logits")


def run_model(model: nn.Module, batch: Batch) -> Tensor:
    """The model's main output: `last_hidden_state`, else `logits`, else the first tensor.

    Raises:
        InputError: the output holds no tensor.
    """
    result: Any = model(**batch) if isinstance(batch, Mapping) else model(batch)
    return main_output(result)


def try_model(model: nn.Module, batch: Batch) -> Tensor:
    """`run_model` on a user's batch: a batch that the model cannot take is refused in one sentence.

    Raises:
        InputError: the model failed on the batch, its own error being the cause; or a model of transformers
            has no such argument (it would pass over it).
    """
    if isinstance(batch, Mapping) and hasattr(model, "config"):
        known = list(inspect.signature(model.forward).parameters)
        unknown = next(
            (name for name, x in batch.items() if name not in known and isinstance(x, Tensor)), None
        )
        if unknown is not None:
            takes = ", ".join(name for name in known if name != "kwargs")
            raise InputError(f"{type(model).__name__} has no input `{unknown}`. It takes {takes}.")
    try:
        return run_model(model, batch)
    except EdgeSparseError:
        raise
    except Exception as error:  # somebody else's model: anything can come out of it
        if isinstance(batch, Mapping):
            got = ", ".join(f"{n} {_describe(x)}" for n, x in batch.items() if isinstance(x, Tensor))
        else:
            got = _describe(batch)
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{type(model).__name__} must accept the batches; got {got}. It raised: {line}"
        ) from error


def _describe(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"


def main_output(result: Any) -> Tensor:
    """See `run_model`."""
    if isinstance(result, Tensor):
        return result
    for name in _MAIN:
        value = getattr(result, name, None)
        if isinstance(value, Tensor):
            return value
    values = result.values() if isinstance(result, Mapping) else result
    first = next((x for x in values if isinstance(x, Tensor)), None) if hasattr(values, "__iter__") else None
    if first is None:
        raise InputError(f"The model must return a tensor; it returns {type(result).__name__}.")
    return first


def padding_of(batch: Batch) -> Tensor | None:
    """The batch's padding mask, bool [B, N], where it has one."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return None if mask is None else mask.bool()


def cosine(actual: Tensor, expected: Tensor, mask_BN: Tensor | None) -> float:
    """Mean cosine of the vectors along the last axis, over real tokens."""
    each = torch.cosine_similarity(actual.double(), expected.double(), dim=-1)
    if mask_BN is not None and each.shape == mask_BN.shape:
        each = each[mask_BN]
    return float(each.mean())
