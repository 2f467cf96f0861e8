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

from edgesparse.attention.core import NO_CAP
from edgesparse.attention.layer import SparseAttention, window_blocks
from edgesparse.attention.record import Records, attention_records

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
        # Key blocks of the last batch that a selection was seen of.
        self.key_blocks: int | None = None
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
        if layers:
            self._select()

    def update(self, records: Records, total: Callable[[Tensor], Tensor] = lambda flops: flops) -> float:
        """Read what a forward pass computed, correct `top_p`, and return the measured share.

        Args:
            records: of the pass.
            total: sums FLOPs over the processes that share a batch.
        """
        self.key_blocks = _key_blocks(records) or self.key_blocks
        if self.target >= 1.0 or self.key_blocks is None:
            return 1.0
        self.share = _measured_share(records, total)
        if self.rule == "top_k":
            most = self.key_blocks
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
        if not layers or self.key_blocks is None:
            return NO_CAP
        return blocks_cap(layers[0], self.key_blocks, share)

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
    share, key_blocks = _share_at(model, data, -LOGIT_LIMIT, NO_CAP)
    if rule == "top_k":
        fewest, most = 1, key_blocks
        while fewest < most:
            blocks = (fewest + most + 1) // 2
            if _share_at(model, data, math.inf, blocks)[0] <= budget:
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
        tried, _ = _share_at(model, data, middle, cap)
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
    with recording(model) as records:
        for batch in batches:
            with FlopCounterMode(display=False) as counter:
                model(batch)
            counts = counter.get_flop_counts()["Global"]
            # Linear layers and convolutions; attention and router are counted exactly, below.
            other += sum(n for op, n in counts.items() if str(op) in _MODEL_OPERATIONS)
            for i, layer in enumerate(layers):
                record = records[layer]
                assert record.selection is not None
                flops += float(record.flops)
                dense += float(record.dense_flops)
                kept[i] += record.selection.sum((0, 2, 3)).float()
            possible += float(records[layers[0]].reach.sum())
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


def _share_at(model: nn.Module, data: list[Tensor], logit: float, cap: int) -> tuple[float, int]:
    """Attention share over `data`, and the key blocks of its longest batch."""
    set_selection(model, _sigmoid(logit), cap)
    flops = dense = 0.0
    most = 0
    with recording(model) as records:
        for batch in data:
            model(batch)
            flops += sum(float(records[layer].flops) for layer in sparse_layers(model))
            dense += sum(float(records[layer].dense_flops) for layer in sparse_layers(model))
            most = max(most, _key_blocks(records) or 0)
    return flops / dense, most


@contextmanager
def recording(model: nn.Module) -> Iterator[Records]:
    """Evaluate sparsely and without gradients; gives the records of the latest pass."""
    layers, was_training = sparse_layers(model), model.training
    before = [layer.warmup for layer in layers]
    model.eval()
    for layer in layers:
        layer.warmup = False
    try:
        with torch.no_grad(), attention_records(model) as records:
            yield records
    finally:
        model.train(was_training)
        for layer, warmup in zip(layers, before, strict=True):
            layer.warmup = warmup


def _key_blocks(records: Records) -> int | None:
    """Key blocks of the selections; None without one."""
    return next((r.selection.shape[-1] for r in records.values() if r.selection is not None), None)


def _measured_share(records: Records, total: Callable[[Tensor], Tensor]) -> float:
    sparse = [record for record in records.values() if record.selection is not None]
    flops = sum(float(record.flops) for record in sparse)
    dense = sum(float(record.dense_flops) for record in sparse)
    sums = total(torch.tensor([flops, dense], dtype=torch.float64))
    return float(sums[0]) / float(sums[1])


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))
