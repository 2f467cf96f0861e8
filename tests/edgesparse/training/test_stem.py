"""What the fixed features are computed on is chosen by leave-one-out, where it is left open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.config import ModelConfig, RunConfig
from edgesparse.training.run_folder import load_run
from edgesparse.training.stem import _is_lower
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

SMALL = ModelConfig(layers=0, filters=6, competing_groups=4, dilations=(1, 4), thresholds=2, patch=8)


def labeled(series: list[np.ndarray], classes: list[str]) -> SeriesSet:
    return SeriesSet([x[None].astype(np.float32) for x in series], ["x"], np.array(classes), source="made")


def gestures(count: int = 40) -> SeriesSet:
    """One and the same movement at any tempo; the class is where in it the bump lies."""
    rng = np.random.default_rng(0)
    series, classes = [], []
    for i in range(count):
        steps = int(rng.integers(40, 160))
        place = np.linspace(0, 1, steps)
        bump = (0.3, 0.7)[i % 2]
        wave = np.sin(2 * np.pi * place) + np.exp(-(((place - bump) / 0.06) ** 2))
        series.append(wave + 0.2 * rng.standard_normal(steps))
        classes.append("ab"[i % 2])
    return labeled(series, classes)


def tempos(count: int = 40) -> SeriesSet:
    """A wave whose class is its period, cut anywhere."""
    rng = np.random.default_rng(0)
    series = []
    for i in range(count):
        time = np.arange(int(rng.integers(40, 160))) + rng.uniform(0, 50)
        series.append(np.sin(2 * np.pi * time / (10.0, 14.0)[i % 2]) + 0.3 * rng.standard_normal(len(time)))
    return labeled(series, ["ab"[i % 2] for i in range(count)])


def levels(count: int = 40) -> SeriesSet:
    """Noise whose size alone, times a window's own level, tells the class: shapes do not differ."""
    rng = np.random.default_rng(0)
    centers = [(-1.0, 1.0)[i % 2] * (i // 2 % 2 * 2 - 1) for i in range(count)]
    far = [abs(c) * (1.0 if i % 2 else 3.0) * np.sign(c) for i, c in enumerate(centers)]
    series = [c + 0.5 * rng.standard_normal(60) for c in far]
    return labeled(series, ["ab"[i % 2] for i in range(count)])


def fitted(data: SeriesSet, folder: Path, **given: object) -> tuple[ModelConfig, list[dict[str, object]]]:
    run = train(data, RunConfig(model=replace(SMALL, **given)), folder / "run", quiet=True)  # type: ignore[arg-type]
    assert load_run(folder / "run").config.model == run.config.model
    return run.config.model, run.report["skip"]["tried"]


def test_windows_of_any_tempo_are_stretched(tmp_path: Path) -> None:
    model, tried = fitted(gestures(), tmp_path)
    assert model.stretched == max(x.shape[1] for x in gestures().series)
    losses = [entry["loss"] for entry in tried]
    assert "stretched" in tried[1] and losses[1] < losses[0]  # type: ignore[operator]
    assert tried[1]["taken"] == f"windows are stretched to {model.stretched} steps"


def test_one_long_window_does_not_make_all_as_long(tmp_path: Path) -> None:
    data = gestures(20)
    longest = [*data.series[:-1], np.tile(data.series[-1], 40)[:, :3000]]
    _, tried = fitted(data.with_series(longest), tmp_path, smoothed=5, fixed_scale=False)
    median = float(np.median([x.shape[1] for x in longest]))
    assert tried[1]["stretched"] == round(5 * median)


def test_level_counts_where_it_tells_the_class(tmp_path: Path) -> None:
    model, tried = fitted(levels(), tmp_path)
    assert model.fixed_scale is True
    assert [next(iter(entry)) for entry in tried] == ["loss", "fixed_scale", "smoothed"]


def test_the_first_answer_holds_where_no_other_is_better(tmp_path: Path) -> None:
    """Classes that differ in frequency: a stretched window has lost what tells them apart."""
    model, tried = fitted(tempos(), tmp_path)
    assert tried[1]["loss"] > tried[0]["loss"]  # type: ignore[operator]
    assert model.stretched == 0


def test_what_is_given_is_not_tried(tmp_path: Path) -> None:
    model, tried = fitted(gestures(20), tmp_path, stretched=0, fixed_scale=True, smoothed=3)
    assert tried == []
    assert (model.stretched, model.fixed_scale, model.smoothed) == (0, True, 3)


@pytest.mark.parametrize("given", [{"stretched": 100}, {"fixed_scale": True}])
def test_a_transformer_does_neither(given: dict[str, int]) -> None:
    with pytest.raises(InputError, match="needs a model without layers"):
        ModelConfig(layers=2, **given)  # type: ignore[arg-type]


def test_more_dilations_are_tried_on_short_windows_unless_some_are_given(tmp_path: Path) -> None:
    every = replace(SMALL, dilations=ModelConfig().dilations, stretched=0, fixed_scale=False, smoothed=5)
    run = train(levels(12), RunConfig(model=every), tmp_path / "run", quiet=True)
    assert [next(iter(entry)) for entry in run.report["skip"]["tried"]] == ["loss", "dilations"]
    given = replace(every, dilations=(1, 2))
    run = train(levels(12), RunConfig(model=given), tmp_path / "given", quiet=True)
    assert run.report["skip"]["tried"] == []


def test_lower_by_less_than_chance_is_not_lower() -> None:
    """One standard error over the series: a gain of one series alone is none."""
    losses = torch.full((16,), 0.5)
    assert _is_lower(losses - 0.01, losses)
    assert not _is_lower(losses + 0.01, losses) and not _is_lower(losses, losses)
    one = losses.clone()
    one[0] -= 0.4
    assert (losses - one - 0.01).mean() > 0 and not _is_lower(one + 0.01, losses)
