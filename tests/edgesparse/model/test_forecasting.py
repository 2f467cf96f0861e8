"""Forecasting: cut, train, export, evaluate beside the rivals that cost nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.config import TrainingConfig
from edgesparse.training.run_folder import Run, load_run
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.data.forecasting import cut_horizon, estimate_season, last_value, seasonal_values
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import evaluate
from edgesparse_runtime.session import Session
from tests.support.synthetic import TINY_MODEL, tiny_config
from tests.support.tolerances import ENGINES

HORIZON = 20


def waves(count: int = 48, *, seed: int = 0, steps: int = 320, unequal: bool = False) -> SeriesSet:
    """A season of 40 steps on a wandering level; the second channel is noise."""
    rng = np.random.default_rng(seed)
    series = []
    for i in range(count):
        length = steps - (64 if unequal and i % 2 else 0)
        wave = np.sin(2 * np.pi * (np.arange(length) + rng.integers(40)) / 40)
        level = rng.uniform(50, 150)
        noise = rng.standard_normal(length)
        series.append(np.stack([noise, level + 5 * wave + 0.3 * noise]).astype(np.float32))
    return SeriesSet(series, ("noise", "load"), source="waves")


def forecast_config(epochs: int = 60, **training: object):  # type: ignore[no-untyped-def]
    return tiny_config(
        task="forecasting", horizon=HORIZON, target="load", epochs=epochs, learning_rate=1e-2, **training
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(waves(), forecast_config(), tmp_path_factory.mktemp("forecast") / "run", quiet=True)


def test_cut_and_rivals_by_hand() -> None:
    x = np.array([[1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 0, 0, 0, 0, 9]], dtype=np.float32)
    past = cut_horizon(SeriesSet([x], ("a", "b")), "", 3)
    assert past.labels is not None and past.labels.tolist() == [[6, 7, 8]]
    assert past.series[0].shape == (2, 5)
    assert last_value(past, "a", 3).tolist() == [[5, 5, 5]]
    assert seasonal_values(past, "a", 3, 2).tolist() == [[4, 5, 4]]
    assert seasonal_values(past, "a", 3, 99).tolist() == [[5, 5, 5]]
    past.series[0][0, 3:5] = np.nan
    assert last_value(past, "a", 2).tolist() == [[3, 3]]


def test_season_is_found_where_there_is_one() -> None:
    assert estimate_season(cut_horizon(waves(), "load", HORIZON), "load") == 40
    assert estimate_season(waves(), "noise") == 0


@pytest.mark.parametrize(
    ("channel", "horizon", "message"),
    [("lod", 5, "must have the channel lod"), ("load", 200, "at least 400 steps")],
)
def test_what_cannot_be_cut_is_refused(channel: str, horizon: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cut_horizon(waves(), channel, horizon)


def test_horizon_belongs_to_forecasting() -> None:
    with pytest.raises(InputError, match="`horizon` must be given for forecasting"):
        TrainingConfig(task="forecasting")
    with pytest.raises(InputError, match="`horizon` is for forecasting only; got 3 for classification"):
        TrainingConfig(horizon=3)


def test_beats_its_rivals_on_new_series_and_says_so(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, verdict = export_run(
        run, tmp_path / "load.edgesparse", data=cut_horizon(waves(), "load", HORIZON)
    )
    assert verdict.holds
    assert run.facts.season == 40
    fresh = waves(40, seed=1)
    found = evaluate(Session(bundle), fresh)
    ours = found.metrics[0].value
    assert [m.name for m in found.metrics] == ["mae", "rmse"]
    last, seasonal = (rows[0].value for rows in found.rivals.values())
    assert ours < 0.3 * last and ours < 1.2 * seasonal
    np.savez(tmp_path / "fresh.npz", X=fresh.to_batch(), channels=np.array(fresh.channels))
    assert command(["evaluate", str(bundle.path), str(tmp_path / "fresh.npz"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["metrics"]["mae"]["value"] == pytest.approx(ours, rel=1e-4)
    assert printed["rivals"]["last value"]["mae"]["value"] == pytest.approx(last, rel=1e-4)
    assert command(["evaluate", str(bundle.path), str(tmp_path / "fresh.npz")]) == 0
    assert "a season of 40 steps before" in capsys.readouterr().out
    # A whole window is the past: its next steps come out, one column a step.
    assert Session(bundle).predict(fresh).shape == (40, HORIZON)


@torch.no_grad()
def test_forecast_follows_level_and_scale(run: Run) -> None:
    """The same wave elsewhere and larger is predicted elsewhere and larger."""
    past = torch.from_numpy(cut_horizon(waves(4), "load", HORIZON).to_batch())
    moved = past.clone()
    moved[:, 1] = 3 * past[:, 1] - 40
    scores, other = (load_run(run.path).to_scores(run.model(x)) for x in (past, moved))
    # Level and scale are features too, so the shape may differ a little.
    assert float((other - (3 * scores - 40)).abs().max()) < 0.2 * 3 * float(scores.std())


def test_causal_and_unequal_and_held_out_in_order(tmp_path: Path) -> None:
    config = replace(forecast_config(2, validation_share=0.25), model=replace(TINY_MODEL, causal=True))
    data = waves(16, unequal=True)
    run = train(data, config, tmp_path / "run", quiet=True)
    assert (
        run.report["metrics"]["validation"]["n"] == 4 and run.report["metrics"]["validation"]["name"] == "mae"
    )
    bundle, verdict = export_run(run, tmp_path / "causal.edgesparse", data=data)
    assert verdict.holds
    windows = data.to_batch()[:1]
    whole = Session(bundle).token_scores(windows)
    assert whole.shape == (1, 40, HORIZON)
    cut = Session(bundle).predict(windows[:, :, : 24 * 8])
    np.testing.assert_allclose(whole[:, 23], cut, rtol=ENGINES.relative, atol=ENGINES.absolute)
    # Padding after the end changes nothing.
    padded = np.pad(windows, ((0, 0), (0, 0), (0, 37)), constant_values=np.nan)
    np.testing.assert_allclose(
        Session(bundle).predict(padded), whole[:, -1], rtol=ENGINES.relative, atol=ENGINES.absolute
    )


def test_command_line_trains_a_forecaster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = waves(12)
    np.savez(tmp_path / "waves.npz", X=data.to_batch(), channels=np.array(data.channels))
    arguments = ["train", str(tmp_path / "waves.npz"), "-o", str(tmp_path / "run"), "--task", "forecasting"]
    arguments += ["--horizon", "8", "--target", "load", "--epochs", "1", "--set", "model.width=16"]
    assert command(arguments) == 0
    assert "mae, training" in capsys.readouterr().out
    assert command([*arguments, "--target", "lod", "--overwrite"]) == 2
    assert "must have the channel lod" in capsys.readouterr().err
