"""`sparsify`: an existing transformer, made sparse in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from torch import nn

from edgesparse.dropin.batches import read_batches
from edgesparse.dropin.calibration import calibrate
from edgesparse.dropin.checks import check_steps, check_targets
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.layers import is_huggingface
from edgesparse.dropin.outputs import Batch
from edgesparse.dropin.pytorch import attach_pytorch, remember_pytorch
from edgesparse_runtime.errors import InputError

Model = TypeVar("Model", bound=nn.Module)


def sparsify(
    model: Model,
    batches: Iterable[Batch] | None = None,
    *,
    density: float | None = None,
    fidelity: float | None = None,
    block_size: int = 32,
    window: int = 0,
    summaries: bool = True,
    sampled_queries: int = 0,
    distill_steps: int = 0,
) -> Model:
    """Exchange a trained model's attention for sparse attention, in place; calibrate it if batches are given.

    Hugging Face models go through transformers' attention interface (`attn_implementation="edgesparse"`),
    others through `attach_pytorch`.

    Args:
        model: a `transformers` model or any `torch.nn.Module`.
        batches: unlabeled inputs (tensors, or dictionaries of keyword arguments) in a list, DataLoader or
            generator, read into memory once. None keeps every block until `calibrate` is called.
        density: share of query-key pairs to attend to; or
        fidelity: least cosine to the dense model's output.
        block_size: see `DropinConfig`.
        window: see `DropinConfig`.
        summaries: see `DropinConfig`.
        sampled_queries: see `DropinConfig`.
        distill_steps: see `calibrate`.

    Returns:
        The model that was given.

    Raises:
        InputError: a request that does not fit (see `calibrate`). The model's attention is as it was.
    """
    rule = DropinConfig(block_size, window, summaries, sampled_queries)
    check_steps("distill_steps", distill_steps)
    if batches is None:
        given = {"density": density, "fidelity": fidelity, "distill_steps": distill_steps or None}
        extra = next((name for name, value in given.items() if value is not None), None)
        if extra:
            raise InputError(f"`{extra}` must go with `batches` to calibrate on; got none.")
    else:
        check_targets(density, fidelity)
        batches = read_batches(batches)
    if is_huggingface(model):
        from edgesparse.dropin.huggingface import attach_huggingface, remember_huggingface

        attach: Callable[[Any, DropinConfig], None] = attach_huggingface
        undo = remember_huggingface(cast("Any", model))
    else:
        attach, undo = attach_pytorch, remember_pytorch(model)
    try:
        attach(model, rule)
        if batches is not None:
            calibrate(model, batches, density=density, fidelity=fidelity, distill_steps=distill_steps)
    except BaseException:
        undo()
        raise
    return model
