"""Short distillation: a model's weights learn to give the dense model's output with sparse attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from edgesparse.dropin.layers import dropin_layers
from edgesparse.dropin.outputs import Batch, padding_of, run_model


def distill(
    model: nn.Module,
    pairs: Sequence[tuple[Batch, Tensor]],
    *,
    steps: int,
    rate: float,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> list[float]:
    """Adam on the squared error over the variance of the wanted output; returns the loss of each step.

    Routers and `top_p` stay as they are. Dropout is off: the model stays in evaluation mode.
    """
    routers = {id(p) for layer in dropin_layers(model) for p in layer.parameters()}
    weights = [p for p in model.parameters() if id(p) not in routers and p.is_floating_point()]
    was_trainable = [p.requires_grad for p in weights]
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(weights, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(steps, 2), pct_start=0.1)
    losses: list[float] = []
    order: list[int] = []
    try:
        for p in weights:
            p.requires_grad_(True)
        with torch.enable_grad():
            for step in range(steps):
                order = order or torch.randperm(len(pairs), generator=generator).tolist()
                batch, wanted = pairs[order.pop()]
                loss = relative_error(run_model(model, batch), wanted, padding_of(batch))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
                say(f"distillation {step + 1} of {steps}: error {losses[-1]:.4f}")
    finally:
        model.train(was_training)
        for p, trainable in zip(weights, was_trainable, strict=True):
            p.requires_grad_(trainable)
            p.grad = None
    return losses


def relative_error(actual: Tensor, wanted: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Squared error per token over its squared length, mean over real tokens: what cosine measures."""
    error = (actual - wanted).square().sum(-1) / wanted.square().sum(-1).clamp(min=1e-6)
    if mask_BN is not None and error.shape == mask_BN.shape:
        error = error[mask_BN]
    return error.mean()
