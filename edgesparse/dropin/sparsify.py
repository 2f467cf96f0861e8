"""`sparsify`: an existing transformer, made sparse in place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from edgesparse.dropin.calibrate import calibrate
from edgesparse.dropin.outputs import Batch
from edgesparse.dropin.pytorch import attach_pytorch
from edgesparse.dropin.rule import DropinRule

Model = TypeVar("Model", bound=nn.Module)


def sparsify(
    model: Model,
    batches: Sequence[Batch] | None = None,
    *,
    density: float | None = None,
    fidelity: float | None = None,
    block_size: int = 32,
    window: int = 0,
    summaries: bool = True,
    distill_steps: int = 0,
) -> Model:
    """Exchange a trained model's attention for sparse attention, in place; calibrate it if batches are given.

    Hugging Face models go through transformers' attention interface (`attn_implementation="edgesparse"`),
    others through `attach_pytorch`.

    Args:
        model: a `transformers` model or any `torch.nn.Module`.
        batches: unlabelled inputs: tensors, or dictionaries of keyword arguments. None keeps every block
            until `edgesparse.dropin.calibrate` is called.
        density: share of query-key pairs to attend to; or
        fidelity: least cosine to the dense model's output.
        block_size, window, summaries: see `DropinRule`.
        distill_steps: see `calibrate`.

    Returns:
        The model that was given.
    """
    rule = DropinRule(block_size=block_size, window=window, summaries=summaries)
    # A model of transformers has imported it; nobody else should have to.
    transformers = sys.modules.get("transformers")
    if transformers is not None and isinstance(model, transformers.PreTrainedModel):
        from edgesparse.dropin.huggingface import attach_huggingface

        attach_huggingface(model, rule)
    else:
        attach_pytorch(model, rule)
    if batches is not None:
        calibrate(model, batches, density=density, fidelity=fidelity, distill_steps=distill_steps)
    return model
