"""Sets are cut so that nothing tested is trained on, figures are what they say, the page has the results."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks.proofs.learning import compare_forecasting, compare_regression
from benchmarks.regression_forecasting import forecasting_sets, regression_sets
from benchmarks.regression_forecasting.cases import COMMITTED, Case, Record, committed
from benchmarks.regression_forecasting.forecasting_sets import MOST_WINDOWS, Origin, cut, fill
from benchmarks.regression_forecasting.sources import tested_groups as held_out
from benchmarks.regression_forecasting.tables import RANKED, TABLES, mase, mean_ranks, rmse
from tests.support.paths import ROOT

SEASON = 6


def test_a_single_series_is_trained_on_before_it_is_tested() -> None:
    data = cut({"one": np.arange(100.0 * SEASON)}, SEASON)
    windows, names = data.windows()
    first = min(origin.future[0] for origin in data.origins)
    assert windows.max() < first
    assert {*names} == {"one"}
    assert all(origin.past[-1] + 1 == origin.future[0] for origin in data.origins)
    assert {origin.future[0] % SEASON for origin in data.origins} == {0.0}


def test_tested_series_are_not_trained_on() -> None:
    series = {f"s{i}": np.arange(60.0 * SEASON) + 1000 * i for i in range(9)}
    data = cut(series, SEASON)
    assert {origin.group for origin in data.origins} == held_out(series)
    assert not held_out(series) & {*data.training}
    assert len(data.training) == 6
    last = min(origin.future[0] % 1000 for origin in data.origins)
    assert all(values[-1] % 1000 < last for values in data.training.values())


def test_there_are_fewer_windows_than_make_training_hold_some_out() -> None:
    data = cut({f"s{i}": np.arange(365.0 * SEASON) for i in range(30)}, SEASON)
    windows, _ = data.windows()
    assert MOST_WINDOWS / 2 < len(windows) < MOST_WINDOWS
    assert windows.shape[1] == data.past + data.horizon


def test_a_gap_is_filled_from_the_season_before() -> None:
    values = np.array([1.0, np.nan, 3.0, 4.0, np.nan, 6.0])
    assert fill(values, 3).tolist() == [1.0, 3.5, 3.0, 4.0, 3.5, 6.0]


def test_the_scale_is_seasonal_naive_in_the_past() -> None:
    origin = Origin("a", np.array([0.0, 1.0, 2.0, 4.0]), np.array([2.0, 4.0]))
    assert origin.scale(2) == pytest.approx(2.5)


def _record(error: list[float]) -> Record:
    return {"error": error, "groups": ["a"] * len(error), "trained": 5}


def _regression(figures: Mapping[str, float]) -> dict[Case, Record]:
    return {
        Case("regression", name, model): _record([figure, -figure])
        for name in regression_sets.SETS
        for model, figure in figures.items()
    }


def test_ranks_share_ties() -> None:
    assert rmse([_record([3.0, -4.0])]) == pytest.approx(np.sqrt(12.5))
    assert mase([_record([1.0, 2.0])]) == 1.5
    ranks = mean_ranks(_regression(dict(zip(RANKED, [2.0, 1.0, 2.0, 5.0], strict=True))))
    assert ranks == dict(zip(RANKED, [2.5, 1.0, 2.5, 4.0], strict=True))


@pytest.mark.parametrize(("ours", "verdict"), [(1.0, "PASS"), (1.1, "FAIL")])
def test_claims_compare_with_the_rivals(ours: float, verdict: str) -> None:
    found = _regression(dict.fromkeys(RANKED, 1.0) | {"default": ours})
    for name in forecasting_sets.SETS:
        for model in ("default", "AutoETS", "seasonal naive"):
            figure = ours if model == "default" else 1.0
            found[Case("forecasting", name, model)] = _record([figure])
    assert [entry["verdict"] for entry in (*compare_forecasting(found), compare_regression(found))] == [
        verdict
    ] * 3


def test_claims_fail_where_a_set_is_missing() -> None:
    assert {entry["verdict"] for entry in (*compare_forecasting({}), compare_regression({}))} == {"FAIL"}


def test_the_page_has_the_committed_results() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, render in TABLES.items():
        assert f"<!-- rivals {name} -->\n{render(committed())}\n<!-- end of rivals {name} -->" in page
    assert all(machine["cpu"] for machine in json.loads(COMMITTED.read_text(encoding="utf-8"))["machines"])
