"""Holds a model's attention at a share of dense attention's compute, in training and afterwards.

All heads share one `top_p`: the same share of the router's mass, so a head whose attention is
concentrated uses few blocks and a diffuse one more. The budget fixes only their sum. The rule `top_k` keeps
the same number of blocks for every query block of every head: relative selection is measured against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgesparse.attention.layer import NO_CAP, SparseAttention, window_blocks

Rule = Literal["top_p", "top_k"]
# `top_p` of sigmoid(-12) is nothing and of sigmoid(12) everything, in float32.
LOGIT_LIMIT = 12.0


@dataclass(frozen=True)
class ComputeReport:
    """Measured on data, padding left out.

    Attributes:
        attention_share: FLOPs of attention, router and summaries included, over dense attention's.
        model_share: FLOPs of the whole model over those of the same model with dense attention.
        density: share of (query block, key block) pairs that are attended to.
        density_by_head: the same, one list per layer.
        top_p: the share of the router's mass that was kept.
        max_blocks: the cap on key blocks per query block.
    """

    attention_share: float
    model_share: float
    density: float
    density_by_head: list[list[float]]
    top_p: float
    max_blocks: int

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def sparse_layers(model: nn.Module) -> list[SparseAttention]:
    """The model's attention layers that have a router, in order."""
    return [m for m in model.modules() if isinstance(m, SparseAttention) and m.router is not None]


def set_selection(model: nn.Module, top_p: float, max_blocks: int = NO_CAP) -> None:
    """Give every sparse layer the same `top_p` and `max_blocks`."""
    for layer in sparse_layers(model):
        layer.top_p.fill_(top_p)
        layer.max_blocks.fill_(max_blocks)


class BudgetController:
    """Moves `top_p` a little after each training step, so that measured compute follows a target.

    Args:
        rule: "top_k" moves the number of blocks instead.
    """

    def __init__(self, model: nn.Module, rule: Rule = "top_p") -> None:
        self.model = model
        self.rule = rule
        # Key blocks per query block by `top_k`, rounded when used; None until a selection was seen.
        self.blocks: float | None = None
        self.logit = LOGIT_LIMIT
        self.target = 1.0
        self.share = 1.0
        self.set_target(1.0)

    def set_target(self, share: float) -> None:
        """Aim at this share of dense attention's compute; 1 and more is dense attention itself."""
        layers = sparse_layers(self.model)
        if self.target >= 1.0 > share:
            # Leaving the dense phase: a router without preferences keeps about `top_p` of the blocks.
            self.logit = _logit(share)
        self.target = share
        for layer in layers:
            layer.warmup = share >= 1.0
            layer.is_recording = share < 1.0
        if layers:
            self._select()

    def update(self, total: Callable[[Tensor], Tensor] = lambda flops: flops) -> float:
        """Read what the last forward pass computed, correct `top_p`, and return the measured share.

        Args:
            total: sums FLOPs over the processes that share a batch.
        """
        layers = [layer for layer in sparse_layers(self.model) if layer.flops is not None]
        if self.target >= 1.0 or not layers:
            return 1.0
        self.share = _measured_share(layers, total)
        if self.rule == "top_k":
            assert layers[0].selection is not None
            most = layers[0].selection.shape[-1]
            before = self.target * most if self.blocks is None else self.blocks
            self.blocks = min(max(before + 0.5 * most * (self.target - self.share), 1.0), float(most))
        else:
            step = 0.5 * (_logit(self.target) - _logit(self.share))
            self.logit = min(max(self.logit + step, -LOGIT_LIMIT), LOGIT_LIMIT)
        self._select()
        return self.share

    def _select(self) -> None:
        if self.blocks is None:
            set_selection(self.model, _sigmoid(self.logit), self._cap(self.target))
        else:
            set_selection(self.model, 1.0, round(self.blocks))

    def _cap(self, share: float) -> int:
        layers = sparse_layers(self.model)
        if not layers or layers[0].selection is None:
            return NO_CAP
        return blocks_cap(layers[0], layers[0].selection.shape[-1], share)

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        state = {"logit": self.logit, "target": self.target}
        return state if self.blocks is None else state | {"blocks": self.blocks}

    def load_state(self, state: dict[str, float]) -> None:
        self.logit, self.target, self.blocks = state["logit"], state["target"], state.get("blocks")
        self.set_target(self.target)


def blocks_cap(layer: SparseAttention, key_blocks: int, share: float) -> int:
    """Twice the blocks that the share allows on average: bounds the slowest query block, not the mean."""
    if share >= 0.5:
        return NO_CAP
    window = window_blocks(layer.config, key_blocks * layer.config.block_size)
    return max(math.ceil(2 * share * key_blocks), window + 1)


def fit_budget(
    model: nn.Module,
    batches: Iterable[Tensor],
    budget: float,
    *,
    rule: Rule = "top_p",
    tolerance: float = 0.005,
) -> ComputeReport:
    """Set `top_p` to the largest value whose measured attention share is at most `budget`.

    Args:
        batches: raw windows [B, channels, time]; labels are not needed.
        budget: share of dense attention's compute, router and summaries included.
        rule: "top_k" sets the number of blocks instead.
        tolerance: stop when the share is this close below the budget.

    Returns:
        What was measured with the chosen value. Its share is above `budget` only when the window alone
        costs more: then `top_p` is as small as it gets.
    """
    layers = sparse_layers(model)
    data = list(batches)
    if not layers or budget >= 1.0:
        set_selection(model, 1.0)
        return measure_compute(model, data)
    share = _share_at(model, data, -LOGIT_LIMIT, NO_CAP)
    assert layers[0].selection is not None
    key_blocks = layers[0].selection.shape[-1]
    if rule == "top_k":
        fewest, most = 1, key_blocks
        while fewest < most:
            blocks = (fewest + most + 1) // 2
            if _share_at(model, data, math.inf, blocks) <= budget:
                fewest = blocks
            else:
                most = blocks - 1
        set_selection(model, 1.0, fewest)
        return measure_compute(model, data)
    cap = blocks_cap(layers[0], key_blocks, budget)
    low, high = -LOGIT_LIMIT, LOGIT_LIMIT
    for _ in range(20):
        if 0 <= budget - share <= tolerance:
            break
        middle = (low + high) / 2
        tried = _share_at(model, data, middle, cap)
        if tried <= budget:
            low, share = middle, tried
        else:
            high = middle
    set_selection(model, _sigmoid(low), NO_CAP if low == -LOGIT_LIMIT else cap)
    return measure_compute(model, data)


def measure_compute(model: nn.Module, batches: Iterable[Tensor]) -> ComputeReport:
    """What the model computes on these windows at its current `top_p`, against dense attention."""
    layers = sparse_layers(model)
    if not layers:
        return ComputeReport(1.0, 1.0, 1.0, [], 1.0, NO_CAP)
    flops = dense = other = 0.0
    kept = [torch.zeros(layer.config.num_heads) for layer in layers]
    possible = 0.0
    with recording(model):
        for batch in batches:
            with FlopCounterMode(display=False) as counter:
                model(batch)
            counts = counter.get_flop_counts()["Global"]
            # Linear layers and convolutions; attention and router are counted exactly, below.
            other += sum(n for op, n in counts.items() if str(op) in _MODEL_OPERATIONS)
            for i, layer in enumerate(layers):
                assert layer.flops is not None and layer.dense_flops is not None
                assert layer.selection is not None
                flops += float(layer.flops)
                dense += float(layer.dense_flops)
                kept[i] += layer.selection.sum((0, 2, 3)).float()
            assert layers[0].reach is not None
            possible += float(layers[0].reach.sum())
    by_head = [(k / possible).tolist() for k in kept]
    return ComputeReport(
        attention_share=flops / dense,
        model_share=(flops + other) / (dense + other),
        density=sum(map(sum, by_head)) / sum(map(len, by_head)),
        density_by_head=by_head,
        top_p=float(layers[0].top_p[0]),
        max_blocks=int(layers[0].max_blocks),
    )


_MODEL_OPERATIONS = frozenset({"aten.mm", "aten.addmm", "aten.convolution"})


def _share_at(model: nn.Module, data: list[Tensor], logit: float, cap: int) -> float:
    """Attention share over `data`, longest batch last so that its block count is what layers remember."""
    set_selection(model, _sigmoid(logit), cap)
    flops = dense = 0.0
    with recording(model):
        for batch in sorted(data, key=lambda batch: batch.shape[-1]):
            model(batch)
            for layer in sparse_layers(model):
                assert layer.flops is not None and layer.dense_flops is not None
                flops += float(layer.flops)
                dense += float(layer.dense_flops)
    return flops / dense


@contextmanager
def recording(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, with every sparse layer keeping its selection and counts."""
    layers, was_training = sparse_layers(model), model.training
    before = [(layer.warmup, layer.is_recording) for layer in layers]
    model.eval()
    for layer in layers:
        layer.warmup, layer.is_recording = False, True
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
        for layer, (warmup, is_recording) in zip(layers, before, strict=True):
            layer.warmup, layer.is_recording = warmup, is_recording


def _measured_share(layers: list[SparseAttention], total: Callable[[Tensor], Tensor]) -> float:
    flops = sum(float(layer.flops) for layer in layers if layer.flops is not None)
    dense = sum(float(layer.dense_flops) for layer in layers if layer.dense_flops is not None)
    sums = total(torch.tensor([flops, dense], dtype=torch.float64))
    return float(sums[0]) / float(sums[1])


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))
