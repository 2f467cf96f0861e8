"""Temperature: it is found, it is honest about what it does, and the exported file applies it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from edgesparse.config import TrainingConfig
from edgesparse.training.cross_fit import FOLDS, folds
from edgesparse.training.run_folder import load_run
from edgesparse.training.temperature import (
    best_temperature,
    expected_calibration_error,
    fit_temperature,
)
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from tests.support.synthetic import make_series, tiny_config
from tests.support.tolerances import ENGINES


def overconfident(n: int, factor: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose true temperature is `factor`: labels come from the softmax they had before."""
    generator = torch.Generator().manual_seed(seed)
    honest = 1.5 * torch.randn(n, 4, generator=generator)
    return honest * factor, torch.multinomial(honest.softmax(-1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_finds_the_temperature_that_was_used(factor: float) -> None:
    logits, targets = overconfident(20_000, factor)
    assert best_temperature(logits, targets) == pytest.approx(factor, rel=0.05)


def test_fit_is_the_least_cross_entropy_of_a_grid() -> None:
    logits, targets = overconfident(60, 3.0)
    found = float(cross_entropy(logits.double() / best_temperature(logits, targets), targets))
    assert (
        found
        <= min(float(cross_entropy(logits.double() / t, targets)) for t in np.geomspace(0.05, 20, 400)) + 1e-9
    )


def test_overconfident_scores_become_honest_on_series_that_were_not_fitted_on() -> None:
    found = fit_temperature(*overconfident(4000, 4.0), "held-out")
    assert found is not None
    assert found.error_before > 0.15 and found.error_after < 0.03
    assert found.loss_after < found.loss_before
    assert fit_temperature(*overconfident(19, 4.0), "held-out") is None


def test_expected_calibration_error_by_hand() -> None:
    # Confidence 0.9, right in three of four: a gap of 0.15. Confidence 0.5 (just), right in one of two: none.
    logits = torch.tensor([[0.9, 0.1]] * 4 + [[0.5001, 0.4999]] * 2).log()
    targets = torch.tensor([0, 0, 0, 1, 0, 1])
    assert expected_calibration_error(logits, targets) == pytest.approx(0.15 * 4 / 6, abs=1e-3)


def test_folds_hold_every_series_once_and_keep_groups_whole() -> None:
    data = make_series(40)
    found = folds(data, 0)
    assert sorted(np.concatenate(found)) == list(range(40)) and len(found) == FOLDS
    assert all(set(data.labels[f]) == {"fast", "slow"} for f in found)  # type: ignore[index]
    groups = np.array([f"m{i % 6}" for i in range(40)])
    for fold in folds(SeriesSet(data.series, data.channels, data.labels, groups), 0):
        assert not set(groups[fold]) & set(np.delete(groups, fold))


@pytest.mark.parametrize("fitted_on", ["held-out", "cross-fitted"])
def test_exported_scores_are_calibrated_and_decisions_the_same(tmp_path: Path, fitted_on: str) -> None:
    data = make_series(60)
    labels = np.asarray(data.labels).copy()
    # A fifth of the labels is wrong: full confidence is not deserved.
    labels[::5] = np.where(labels[::5] == "fast", "slow", "fast")
    data = SeriesSet(data.series, data.channels, labels, source="noisy")
    share = 0.5 if fitted_on == "held-out" else 0.0
    config = tiny_config(epochs=8, validation_share=share, temperature=fitted_on, label_smoothing=0.0)
    run = train(data, config, tmp_path / "run", quiet=True)
    found = run.report["temperature"]
    assert found is not None
    assert found["fitted_on"] == fitted_on and found["n"] == (30 if share else 60)
    assert abs(found["value"] - 1) > 0.02
    windows = torch.from_numpy(data.to_batch()[:8])
    with torch.no_grad():
        logits = load_run(run.path).model(windows)
    scores = Session(export_run(run, tmp_path / "c.edgesparse", data=data)[0]).predict(windows.numpy())
    expected = (logits / found["value"]).softmax(-1).numpy()
    np.testing.assert_allclose(scores, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
    assert (scores.argmax(-1) == logits.argmax(-1).numpy()).all()


def test_unknown_choice_is_refused() -> None:
    with pytest.raises(InputError, match="held-out, cross-fitted or none"):
        TrainingConfig(temperature="sometimes")  # type: ignore[arg-type]
