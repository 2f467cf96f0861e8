"""Causal models: what a token says depends on the past only, in torch and in the exported file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.config import RunConfig
from edgesparse.training.evaluation import evaluate
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from tests.support.synthetic import TINY_MODEL, make_series, tiny_config
from tests.support.tolerances import ENGINES


def causal_config(attention: str = "sparse", **training: object) -> RunConfig:
    model = replace(TINY_MODEL, causal=True, attention=attention)  # type: ignore[arg-type]
    return replace(tiny_config(**training), model=model)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, series: SeriesSet) -> Run:
    return train(series, causal_config(), tmp_path_factory.mktemp("causal") / "run", quiet=True)


@torch.no_grad()
def test_later_steps_change_no_earlier_token(run: Run, series: SeriesSet) -> None:
    windows = torch.from_numpy(series.to_batch()[:4])
    before = run.model.score_tokens(windows)
    for step in (0, 7, 8, 63, 64, 65, 301, 599):
        changed = windows.clone()
        changed[:, :, step:] = 30.0 * torch.randn_like(changed[:, :, step:])
        after = run.model.score_tokens(changed)
        whole = step // run.model.patch
        assert torch.equal(before[:, :whole], after[:, :whole]), step
        assert not torch.equal(before[:, whole:], after[:, whole:]), step


@torch.no_grad()
def test_a_token_says_what_the_window_that_ends_there_says(run: Run, series: SeriesSet) -> None:
    windows = torch.from_numpy(series.to_batch()[:4])
    scores = run.model.score_tokens(windows)
    for tokens in (1, 8, 9, 40, 75):
        cut = run.model(windows[:, :, : tokens * run.model.patch])
        torch.testing.assert_close(scores[:, tokens - 1], cut, rtol=ENGINES.relative, atol=ENGINES.absolute)


def test_learns_and_keeps_level_and_scale(run: Run, tmp_path: Path) -> None:
    """Normalization that is fixed leaves the level in the signal: classes that differ in it are learned."""
    assert evaluate(run.model, make_series(seed=1), run.facts, run.config.training).value >= 0.9
    level = make_series(24)
    for i, x in enumerate(level.series):
        x *= 0.1
        x += 5.0 * (i % 2)
    levels = train(level, causal_config(epochs=12), tmp_path / "level", quiet=True)
    assert evaluate(levels.model, level, levels.facts, levels.config.training).value == 1.0


def test_padding_changes_no_score(tmp_path: Path) -> None:
    data = make_series(18, unequal=True)
    run = train(data, causal_config(epochs=1), tmp_path, quiet=True)
    alone = torch.from_numpy(data.series[0])[None]
    padded = torch.cat([alone, torch.full((1, 2, 77), torch.nan)], dim=-1)
    near = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
    with torch.no_grad():
        torch.testing.assert_close(run.model(padded), run.model(alone), **near)
        torch.testing.assert_close(run.model.score_tokens(padded)[:, -1], run.model(alone), **near)


@pytest.mark.parametrize("attention", ["sparse", "dense"])
def test_exported_file_scores_every_token(
    run: Run, series: SeriesSet, tmp_path: Path, attention: str
) -> None:
    if attention == "dense":
        run = train(series, causal_config("dense", epochs=2), tmp_path / "dense", quiet=True)
    bundle, verdict = export_run(run, tmp_path / "causal.edgesparse", data=series)
    assert verdict.holds
    session = Session(bundle)
    windows = series.to_batch()[:5]
    scores = session.token_scores(windows)
    assert scores.shape == (5, run.model.token_count(600), 2)
    np.testing.assert_array_equal(scores[:, -1], session.predict(windows))
    changed = windows.copy()
    changed[:, :, 320:] = np.nan
    np.testing.assert_allclose(
        session.token_scores(changed)[:, :40], scores[:, :40], rtol=ENGINES.relative, atol=ENGINES.absolute
    )


def test_a_model_that_is_not_causal_has_no_token_scores(shared_bundle: Bundle, series: SeriesSet) -> None:
    with pytest.raises(InputError, match="must be a causal model"):
        Session(shared_bundle).token_scores(series)
