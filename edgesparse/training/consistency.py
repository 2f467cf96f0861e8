"""Consistency: the sparse model should predict what the same weights predict with dense attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div, mse_loss

from edgesparse.model.transformer import SequenceTransformer
from edgesparse.training.budget import sparse_layers


def consistency_loss(
    model: SequenceTransformer, window_BCT: Tensor, output: Tensor, *, is_classification: bool
) -> Tensor:
    """KL divergence of the scores from the dense model's, or squared difference of the targets.

    The dense pass has the same weights, no dropout and no gradient: only the sparse pass is pulled.
    """
    dense = dense_output(model, window_BCT)
    if is_classification:
        return kl_div(output.log_softmax(-1), dense.log_softmax(-1), reduction="batchmean", log_target=True)
    return mse_loss(output, dense)


@torch.no_grad()
def dense_output(model: SequenceTransformer, window_BCT: Tensor) -> Tensor:
    """The model's output with dense attention in every layer; the model is left as it was."""
    layers, was_training = sparse_layers(model), model.training
    before = [layer.warmup for layer in layers]
    model.eval()
    for layer in layers:
        layer.warmup = True
    try:
        output: Tensor = model(window_BCT)
        return output
    finally:
        model.train(was_training)
        for layer, warmup in zip(layers, before, strict=True):
            layer.warmup = warmup
