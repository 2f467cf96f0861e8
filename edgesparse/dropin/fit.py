"""Fits drop-in routers to where dense attention looks, and picks `top_p` per head for a chosen density."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edgesparse.attention.core import NO_CAP
from edgesparse.attention.router import router_loss
from edgesparse.attention.selection import block_shares, ordered_selection
from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.observations import Observation

STEPS = 200
LEARNING_RATE = 0.02
# The most that a query block may take, in times its share of the density.
CAP = 1.25
# Values of `top_p` that a head is offered: fine where a little more mass is one more block.
TOP_P = torch.cat([torch.tensor([0.0]), 1 - torch.logspace(0, -3.5, 60)[1:], torch.tensor([1.0])])


def fit_router(
    layer: DropinAttention, observation: Observation, *, steps: int = STEPS, seed: int = 0
) -> tuple[float, float]:
    """Lower the router's divergence from dense attention's block mass; returns it before and after.

    Windows are drawn a few at a time, so time does not grow with the calibration data. A router that learns
    nothing stays as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = list(layer.router.parameters())
    if not parameters:
        found = divergence(layer, observation)
        return found, found
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=max(steps, 2))
    before = divergence(layer, observation)
    count = len(observation.mass)
    with torch.enable_grad():
        for parameter in parameters:
            parameter.requires_grad_(True)
        for _ in range(steps):
            rows = torch.randperm(count, generator=generator)[: min(count, 8)]
            scores = layer.router.score(*(x[rows] for x in observation.pooled))
            loss = router_loss(scores, observation.mass[rows], observation.reach[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    return before, divergence(layer, observation)


def divergence(layer: DropinAttention, observation: Observation) -> float:
    """Mean divergence of the router's shares from dense attention's block mass, over real query blocks."""
    with torch.no_grad():
        scores = layer.router.score(*observation.pooled)
        rows = observation.reach.any(-1).float().mean().clamp(min=1e-9)
        return float(router_loss(scores, observation.mass, observation.reach) / rows)


def choose_top_p(
    layers: Sequence[DropinAttention],
    observations: Sequence[Observation],
    density: float,
    *,
    cap: float | None = CAP,
    capped_density: float | None = None,
) -> float:
    """Set `top_p` of every head so that all layers together keep `density` of the block pairs.

    Each head is offered a grid of values; what it keeps is weighed against the mass that it misses (squared,
    per query block) at one price for all heads of all layers, and the price is moved until the density is
    met. A head whose attention is spread thin thereby leaves its share to one that needs it.

    Args:
        cap: `max_blocks`, in units of the blocks that `density` is of the longest window. It bounds what a
            query block whose attention is spread thin (silence, for one) may take, and with it the time of
            the worst input; summaries serve thin attention well. Longer inputs than this window raise the
            cap in proportion. None = no cap.
        capped_density: the density that `cap` counts in; `density` by default.

    Returns:
        The density reached on the observations, in pairs of tokens where all blocks are full: the nearest one
        not above `density`, or the least.
    """
    blocks = max(observation.blocks for observation in observations)
    most = NO_CAP if cap is None else max(1, math.ceil(cap * (capped_density or density) * blocks))
    for layer in layers:
        layer.max_blocks.fill_(most)
        layer.set_cap_length(0 if cap is None else blocks)
    kept, missed = zip(*(_offers(a, b) for a, b in zip(layers, observations, strict=True)), strict=True)
    kept_PH, missed_PH = torch.cat(kept, dim=1), torch.cat(missed, dim=1)
    pairs = sum(
        float((b.reach * _pairs(a, b)).sum()) * a.heads for a, b in zip(layers, observations, strict=True)
    )
    low, high = -12.0, 6.0  # logarithm of the price per block pair
    for _ in range(50):
        middle = (low + high) / 2
        if _share(_cheapest(kept_PH, missed_PH, middle), kept_PH, pairs) > density:
            low = middle
        else:
            high = middle
    choice = _cheapest(kept_PH, missed_PH, high)
    values = torch.split(TOP_P[choice], [layer.heads for layer in layers])
    for layer, value in zip(layers, values, strict=True):
        layer.top_p.copy_(value)
    return _share(choice, kept_PH, pairs)


def meet_density(
    layers: Sequence[DropinAttention],
    observations: Sequence[Observation],
    density: float,
    measure: Callable[[], float],
    *,
    cap: float | None = CAP,
) -> None:
    """Choose `top_p`, and once more for what the sparse model itself keeps.

    Observations are of dense attention on the inputs that routers were fitted on. Layers that read what
    sparse ones wrote, and inputs not seen, keep a little more or less.

    Args:
        measure: runs the model in its sparse mode, on inputs not observed where there are any, and gives the
            density that it kept.
    """
    choose_top_p(layers, observations, density, cap=cap)
    reached = measure()
    if reached > 0 and reached != density:
        asked = min(1.0, max(least_density(layers, observations), density * density / reached))
        choose_top_p(layers, observations, asked, cap=cap, capped_density=density)


def least_density(layers: Sequence[DropinAttention], observations: Sequence[Observation]) -> float:
    """Share of pairs that is kept whatever `top_p` is: diagonal blocks and the window."""
    kept = pairs = 0.0
    for layer, observation in zip(layers, observations, strict=True):
        index = torch.arange(observation.reach.shape[-1])
        near = (index[:, None] - index).abs() <= layer.rule.window
        weight = _pairs(layer, observation)
        kept += float(((observation.reach & near) * weight).sum()) * layer.heads
        pairs += float((observation.reach * weight).sum()) * layer.heads
    return kept / pairs


def _offers(layer: DropinAttention, observation: Observation) -> tuple[Tensor, Tensor]:
    """Block pairs kept and what is missed at each value of `TOP_P`, [P, H] each.

    Missed: the mass that a query block loses, squared, because error adds up so; sum over query blocks.
    """
    kept, missed = [], []
    reach, window = observation.reach, layer.rule.window
    with torch.no_grad():
        scores = layer.router.score(*observation.pooled)
        # Sorted once: what each value keeps lies between what 0 keeps and what 1 keeps.
        order, most = ordered_selection(scores, torch.ones(1), layer.max_blocks, reach, window=window)
        _, least = ordered_selection(scores, torch.zeros(1), layer.max_blocks, reach, window=window)
        share = block_shares(scores, reach).gather(-1, order)
        before = share.cumsum(-1) - share
        pairs = _pairs(layer, observation).expand(order.shape).gather(-1, order)
        mass = observation.mass.masked_fill(~reach, 0.0).gather(-1, order)
        for value in TOP_P:
            selection = least | most & ((before < value) | (value >= 1)) & (value > 0)
            kept.append((selection * pairs).sum((0, 2, 3)).double())
            missed.append(mass.masked_fill(selection, 0.0).sum(-1).double().square().sum((0, 2)))
    return torch.stack(kept), torch.stack(missed)


def _pairs(layer: DropinAttention, observation: Observation) -> Tensor:
    """What a pair of blocks counts, [K, K]: a causal diagonal one holds half of the pairs of tokens."""
    return 1 - 0.5 * layer.is_causal * torch.eye(observation.blocks)


def _cheapest(kept_PH: Tensor, missed_PH: Tensor, log_price: float) -> Tensor:
    """The offer that each head takes at a price: int64 [H]."""
    choice: Tensor = (missed_PH + 10.0**log_price * kept_PH).argmin(0)
    return choice


def _share(choice_H: Tensor, kept_PH: Tensor, pairs: float) -> float:
    return float(kept_PH.gather(0, choice_H[None]).sum()) / pairs
