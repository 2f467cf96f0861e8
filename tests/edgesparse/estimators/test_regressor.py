"""Numbers and forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse.estimators import InvalidInputError, SparseTransformerForecaster, SparseTransformerRegressor
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session
from tests.edgesparse.estimators.panels import TINY, make_batch

X, Y = make_batch()
TARGETS = np.where(Y == "slow", 30.0, 10.0)


def test_a_regressor_predicts_in_the_unit_of_its_targets() -> None:
    model = SparseTransformerRegressor(model="small", settings={"model.filters": 4}).fit(X, TARGETS)
    assert model.predict(X).shape == (12,)
    assert model.score(X, TARGETS) > 0.9


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y, "`y` must hold numbers"),
        (TARGETS * np.nan, "`y` must be finite"),
        (TARGETS[:3], r"one entry per series \(12\)"),
        (None, "requires y to be passed"),
    ],
)
def test_targets_are_refused(y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SparseTransformerRegressor(model="small").fit(X, y)


@pytest.fixture(scope="module")
def forecaster() -> SparseTransformerForecaster:
    return SparseTransformerForecaster(horizon=4, target=1, epochs=2, settings=TINY).fit(X)


def test_the_next_steps_are_learned_from_either_form(forecaster: SparseTransformerForecaster) -> None:
    """The ends of the series, or what came after them."""
    assert forecaster.predict(X).shape == (12, 4)
    other = SparseTransformerForecaster(target="channel_1", epochs=2, settings=TINY)
    other.fit(X[:, :, :-4], X[:, 1, -4:])
    np.testing.assert_array_equal(other.predict(X), forecaster.predict(X))
    assert forecaster.score(X) == forecaster.score(X[:, :, :-4], X[:, 1, -4:])


def test_a_forecasters_bundle_takes_the_same_series(
    forecaster: SparseTransformerForecaster, tmp_path: Path
) -> None:
    path = tmp_path / "load.edgesparse"
    forecaster.save(path)
    opened = SparseTransformerForecaster.from_bundle(path)
    np.testing.assert_allclose(opened.predict(X), forecaster.predict(X), rtol=1e-3, atol=1e-4)
    assert opened.score(X) == pytest.approx(forecaster.score(X), abs=1e-4)
    raw = Session(path).predict(SeriesSet(list(X), ("channel_0", "channel_1")))
    np.testing.assert_array_equal(opened.predict(X), raw)


def test_long_series_are_cut_into_windows_that_reach_their_end() -> None:
    model = SparseTransformerForecaster(horizon=4, window=20, stride=9, epochs=1, settings=TINY).fit(X)
    assert model.fitted_.run.facts.series == 12 * 4
    assert model.fitted_.run.facts.longest == 16


@pytest.mark.parametrize(
    ("given", "y", "words"),
    [
        ({}, None, "`horizon` must be a number of steps from 1 on; got None"),
        ({"horizon": 3}, X[:, 0, :4], "3 column"),
        ({"horizon": 4, "target": 2}, None, "`target` must be a channel"),
        ({"horizon": 4, "window": 7}, None, r"`window` must be at least twice the horizon \(8\); got 7"),
        ({"horizon": 30}, None, "at least 60 steps to forecast 30; got 48"),
        ({"horizon": 4, "model": "small"}, None, "`stem` must be 1 for forecasting"),
    ],
)
def test_what_cannot_be_forecast_is_refused(given: dict[str, Any], y: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        SparseTransformerForecaster(**given).fit(X, y)
