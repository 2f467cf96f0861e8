"""A forecaster's training starts from the best linear forecast, and never ends behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.closed_form.fit_recent import fit_recent
from edgesparse.config import ModelConfig, RunConfig, TrainingConfig
from edgesparse.model.forecaster import Forecaster
from edgesparse.training.run_folder import LOG
from edgesparse.training.supervised import fit_labeled
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.synthetic import TINY_MODEL


def make_forecaster(*, variable_length: bool = False) -> Forecaster:
    torch.manual_seed(0)
    config = ModelConfig(width=16, layers=1, num_heads=2, patch=4, block_size=4, filters=8, dilations=(1, 2))
    model = Forecaster(
        config, channels=2, horizon=5, target=1, recent=20, center=3.0, scale=2.0,
        variable_length=variable_length,
    )  # fmt: skip
    model.fit_stem(torch.randn(8, 2, 40).cumsum(-1))
    return model.eval()


def waves(count: int, steps: int) -> torch.Tensor:
    """Sums of two sines, [count, 2, steps]: the next steps are a linear function of the last."""
    generator = torch.Generator().manual_seed(1)
    phase = 6.0 * torch.rand(2, count, 2, 1, generator=generator)
    time = torch.arange(steps)
    return 5.0 + torch.sin(0.4 * time + phase[0]) + 2.0 * torch.sin(0.9 * time + phase[1])


@pytest.mark.parametrize("variable_length", [False, True])
@torch.no_grad()
def test_what_is_linear_is_forecast_at_once(variable_length: bool) -> None:
    model = make_forecaster(variable_length=variable_length)
    whole = waves(200, 45)
    window, target = whole[:, :, :40].clone(), (whole[:, 1, 40:] - model.center) / model.scale
    if variable_length:
        # Every other window is shorter, and ends in padding.
        shorter = torch.cat([window[:, :, 3:], torch.full((200, 2, 3), torch.nan)], dim=-1)
        window[::2] = shorter[::2]
    before = (model(window) - target).abs().mean()
    fit_recent(model, *model.linear_task(window, target))
    after = (model(window) - target).abs().mean()
    assert after < 0.02 * before
    assert not model.head.weight.any()


@torch.no_grad()
def test_it_equals_ridge_regression_on_the_normalized_steps() -> None:
    model = make_forecaster()
    generator = torch.Generator().manual_seed(2)
    recent = torch.randn(90, 20, generator=generator)
    target = recent @ torch.randn(20, 5, generator=generator) + torch.randn(90, 5, generator=generator) + 1.0
    shrinkage = fit_recent(model, recent, target)
    x, y = recent.double().numpy(), target.double().clamp(-10, 10).numpy()
    design = np.concatenate([x - x.mean(0), np.zeros((20, 20))])
    design[90:] = np.eye(20) * np.sqrt(shrinkage * np.square(x - x.mean(0)).sum(0).mean())
    expected, *_ = np.linalg.lstsq(design, np.concatenate([y - y.mean(0), np.zeros((20, 5))]), rcond=None)
    np.testing.assert_allclose(model.project_recent.weight.mT.numpy(), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        model.head.bias.numpy(), y.mean(0) - x.mean(0) @ expected, rtol=1e-3, atol=1e-5
    )


@torch.no_grad()
def test_windows_that_do_not_move_and_too_few_do_no_harm() -> None:
    model = make_forecaster()
    flat = torch.full((6, 2, 40), 7.0)
    fit_recent(model, *model.linear_task(flat, torch.zeros(6, 5)))
    assert torch.isfinite(model(flat)).all()
    fit_recent(model, *model.linear_task(flat[:1], torch.zeros(1, 5)))
    assert torch.isfinite(model(waves(3, 40))).all()


def test_a_transformer_that_is_no_better_is_not_kept(tmp_path: Path) -> None:
    """Noise around a linear rule, and a learning rate that ruins any model: the start is what is left."""
    settings = TrainingConfig(task="forecasting", horizon=4, epochs=3, min_steps=10, learning_rate=0.5)
    config = RunConfig(model=replace(TINY_MODEL, patch=4, block_size=4), training=settings)
    found = fit_labeled(noisy_waves(), config, tmp_path, quiet=True)
    assert len(found.validation) == 16
    assert isinstance(found.model, Forecaster) and not found.model.head.weight.any()


def test_a_transformer_that_is_better_is_kept(tmp_path: Path) -> None:
    """What comes next is the size of what was: no linear map gives it."""
    rng = np.random.default_rng(0)
    past = rng.standard_normal((200, 1, 44))
    size = rng.choice([1.0, 4.0], (200, 1, 1))
    past[:, :, -8:] *= size
    whole = np.concatenate([past, np.repeat(size, 4, axis=2)], axis=2)
    data = SeriesSet([x.astype(np.float32) for x in whole], ("value",), None, source="made")
    settings = TrainingConfig(task="forecasting", horizon=4, epochs=30, min_steps=200)
    config = RunConfig(model=replace(TINY_MODEL, patch=4, block_size=4), training=settings)
    found = fit_labeled(data, config, tmp_path, quiet=True)
    assert isinstance(found.model, Forecaster) and bool(found.model.head.weight.any())


def noisy_waves() -> SeriesSet:
    rng = np.random.default_rng(0)
    whole = waves(80, 48)[:, :1].numpy() + 0.3 * rng.standard_normal((80, 1, 48))
    return SeriesSet([x.astype(np.float32) for x in whole], ("value",), None, source="made")


def test_a_refit_stays_linear_where_the_measured_model_is(tmp_path: Path) -> None:
    settings = TrainingConfig(task="forecasting", horizon=4, epochs=3, min_steps=10, learning_rate=0.5)
    config = RunConfig(model=replace(TINY_MODEL, patch=4, block_size=4), training=settings)
    run = train(noisy_waves(), config, tmp_path / "run", refit=True, quiet=True)
    assert isinstance(run.model, Forecaster) and not run.model.head.weight.any()
    training, validation = (run.report["metrics"][name]["value"] for name in ("training", "validation"))
    assert training < 1.5 * validation


def test_patience_counts_from_the_first_sparse_epoch(tmp_path: Path) -> None:
    """A model that is not sparse yet may not win, and must not use the patience up."""
    settings = TrainingConfig(
        task="forecasting", horizon=4, epochs=20, min_steps=10, patience=3, budget=0.5, learning_rate=1e-4
    )
    config = RunConfig(model=replace(TINY_MODEL, patch=4, block_size=4), training=settings)
    fit_labeled(noisy_waves(), config, tmp_path, quiet=True)
    # It is sparse after a third of the 20 epochs, about; three more are the patience.
    assert len((tmp_path / LOG).read_text(encoding="utf-8").splitlines()) >= 10
