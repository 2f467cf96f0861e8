"""What a user calibrates on, as a list of batches that a model can take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgesparse.dropin.outputs import Batch, padding_of
from edgesparse_runtime.errors import InputError

# What a batch may hold besides tensors: `return_dict=True`, a name.
_PLAIN = (bool, int, float, str, type(None))


def read_batches(batches: Iterable[Any]) -> list[Batch]:
    """All batches, read once and held in memory: calibration goes over them several times.

    Takes a list, a DataLoader, a generator, or a data set with a length. An item is a tensor, a mapping of
    the model's keyword arguments, or a tensor alone in a list or tuple (as `TensorDataset` gives).

    Raises:
        InputError: one batch in place of a list of them, none at all, or a batch that no model takes.
    """
    if isinstance(batches, Tensor | Mapping):
        kind = "tensor" if isinstance(batches, Tensor) else "dictionary"
        raise InputError(f"`batches` must be a list of batches; got one {kind}. Use [batch].")
    if isinstance(batches, str | bytes) or not (
        isinstance(batches, Iterable) or hasattr(batches, "__getitem__")
    ):
        raise InputError(
            f"`batches` must be a list, a DataLoader or a generator of batches; got {type(batches).__name__}."
        )
    found = [_read_batch(batch, i) for i, batch in enumerate(_iterate(batches))]
    if not found:
        raise InputError("`batches` must hold at least one batch to calibrate on; it is empty.")
    return found


def _iterate(batches: Any) -> Iterable[Any]:
    # A lazy data set has a length and items, and need not signal its end.
    if not isinstance(batches, Sequence) and hasattr(batches, "__getitem__") and hasattr(batches, "__len__"):
        return (batches[i] for i in range(len(batches)))
    return batches  # type: ignore[no-any-return]


def _read_batch(batch: Any, place: int) -> Batch:
    if isinstance(batch, list | tuple) and len(batch) == 1:
        batch = batch[0]
    if isinstance(batch, Tensor):
        _check_axes(batch, f"batch {place}")
        _check_values(batch, f"batch {place}")
        return batch
    if not isinstance(batch, Mapping):
        raise InputError(
            f"A batch must be a tensor or the model's keyword arguments by name; batch {place} is a "
            f"{type(batch).__name__}."
        )
    tensors = {name: x for name, x in batch.items() if isinstance(x, Tensor)}
    if not tensors:
        raise InputError(f"A batch must hold a tensor; batch {place} holds {', '.join(batch) or 'nothing'}.")
    # Labels and the like may have one axis; what is attended over has two.
    longest = max(tensors, key=lambda name: tensors[name].ndim)
    _check_axes(tensors[longest], f"`{longest}` of batch {place}")
    for name, x in batch.items():
        if isinstance(x, Tensor):
            _check_values(x, f"`{name}` of batch {place}")
        elif not isinstance(x, _PLAIN):
            raise InputError(
                f"What a batch holds must be tensors; `{name}` of batch {place} is a {type(x).__name__}. "
                "Use a collate function that makes tensors."
            )
    mask = padding_of(batch)
    if mask is not None and not bool(mask.any(-1).all()):
        raise InputError(
            f"`attention_mask` must be true for a token of every row; a row of batch {place} is all padding."
        )
    # A plain dictionary of its own: later on equal objects are distinguished by identity.
    return dict(batch)


def _check_axes(x: Tensor, what: str) -> None:
    if x.ndim < 2:
        raise InputError(
            f"A batch must have rows and tokens as its first axes; {what} has shape {list(x.shape)}. "
            "Use a DataLoader, or x[None]."
        )


def _check_values(x: Tensor, what: str) -> None:
    if x.numel() == 0:
        raise InputError(f"A batch must hold at least one token; {what} has shape {list(x.shape)}.")
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        raise InputError("`batches` must hold finite numbers; got NaN or infinity. Leave such rows out.")
