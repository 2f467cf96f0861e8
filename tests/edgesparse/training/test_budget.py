"""The budget: what is counted, and that controller and calibration hit it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgesparse.attention.core import NO_CAP
from edgesparse.attention.layer import AttentionConfig, SparseAttention
from edgesparse.attention.record import attention_records
from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.budget import BudgetController, fit_budget, measure_compute, set_selection
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


class TwoLayers(nn.Module):
    def __init__(self, mode: str = "sparse") -> None:
        super().__init__()
        self.embed = nn.Linear(1, 32)
        config = AttentionConfig(width=32, num_heads=2, block_size=16, mode=mode)  # type: ignore[arg-type]
        self.layers = nn.ModuleList([SparseAttention(config) for _ in range(2)])

    def forward(self, window: Tensor) -> Tensor:
        x: Tensor = self.embed(window.mT)
        for layer in self.layers:
            x = x + layer(x)[0]
        return x.mean(1)


@pytest.fixture
def windows() -> Tensor:
    return torch.randn(6, 1, 500, generator=torch.Generator().manual_seed(0)).cumsum(-1) / 10


@pytest.fixture
def model() -> TwoLayers:
    torch.manual_seed(0)
    return TwoLayers()


def test_all_blocks_cost_dense_attention_and_the_router(model: TwoLayers, windows: Tensor) -> None:
    report = measure_compute(model, [windows])
    assert report.density == 1.0
    assert 1.0 < report.attention_share < 1.04


def test_count_equals_what_the_products_of_a_kept_block_cost(model: TwoLayers, windows: Tensor) -> None:
    """Without summaries, the difference between two selections is the pairs of tokens that differ."""
    set_selection(model, 1.0)
    full = measure_compute(model, [windows])
    set_selection(model, 0.0)
    narrow = measure_compute(model, [windows])
    tokens, size, heads = 500, 16, 2
    blocks = [16] * 31 + [4]
    kept = sum(a * b for i, a in enumerate(blocks) for j, b in enumerate(blocks) if abs(i - j) <= 1)
    dropped = sum(a for i, a in enumerate(blocks) for j in range(32) if abs(i - j) > 1)
    # Against dense 4*H*D*n*n; each dropped block still costs one summary token a query.
    expected = (kept + dropped - tokens * tokens) * 4 * heads * size / (4 * heads * size * tokens * tokens)
    assert narrow.attention_share - full.attention_share == pytest.approx(expected, rel=1e-9)


def test_dense_model_has_share_one(windows: Tensor) -> None:
    assert measure_compute(TwoLayers("dense"), [windows]).attention_share == 1.0


@pytest.mark.parametrize("budget", [0.2, 0.3, 0.6])
def test_calibration_hits_the_budget(model: TwoLayers, windows: Tensor, budget: float) -> None:
    report = fit_budget(model, [windows[:3], windows[3:]], budget)
    assert budget - 0.02 <= report.attention_share <= budget
    assert measure_compute(model, [windows]).attention_share == pytest.approx(
        report.attention_share, abs=1e-6
    )
    assert report.attention_share < report.model_share < 1.0


def test_calibration_to_an_impossible_budget_says_what_it_got(model: TwoLayers, windows: Tensor) -> None:
    report = fit_budget(model, [windows], 0.01)
    assert 0.01 < report.attention_share < 0.2


def test_controller_follows_the_schedule(model: TwoLayers, windows: Tensor) -> None:
    controller = BudgetController(model)
    model.train()
    with attention_records(model) as records:
        model(windows)
    assert controller.update(records) == 1.0
    assert all(layer.warmup for layer in model.layers)
    controller.set_target(0.3)
    for _ in range(25):
        with attention_records(model) as records:
            model(windows)
        share = controller.update(records)
    assert share == pytest.approx(0.3, abs=0.02)


def test_longest_row_is_capped(model: TwoLayers, windows: Tensor) -> None:
    report = fit_budget(model, [windows], 0.25)
    assert report.max_blocks == 16
    assert fit_budget(model, [windows], 0.6).max_blocks == NO_CAP


def test_top_k_keeps_as_many_blocks_for_every_query_block(model: TwoLayers, windows: Tensor) -> None:
    report = fit_budget(model, [windows], 0.4, rule="top_k")
    assert report.top_p == 1.0
    assert 0.3 < report.attention_share <= 0.4
    for layer in model.layers:
        _, record = layer(torch.randn(2, 500, 32))
        assert (record.selection.sum(-1) == report.max_blocks).all()
    controller = BudgetController(model, "top_k")
    model.train()
    shares = []
    for step in range(40):
        controller.set_target(1.0 if step < 2 else 0.4)
        with attention_records(model) as records:
            model(windows)
        shares.append(controller.update(records))
    # One block more or fewer is about 3 % of dense attention here.
    assert abs(shares[-1] - 0.4) < 0.03
    again = BudgetController(model, "top_k")
    again.load_state(controller.state())
    assert again.blocks == controller.blocks


def test_top_k_in_a_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    series = [rng.standard_normal((1, 300)).astype(np.float32) for _ in range(16)]
    data = SeriesSet(series, ("x",), np.array(["a", "b"] * 8))
    config = resolve_config(RunConfig(), None, ["training.rule=top_k", "training.epochs=6"])
    report = train(data, config, tmp_path / "run", quiet=True).report["compute"]
    assert report["top_p"] == 1.0
    assert report["attention_share"] <= 0.3
    with pytest.raises(InputError, match="must be top_p or top_k; got best"):
        resolve_config(RunConfig(), None, ["training.rule=best"])
