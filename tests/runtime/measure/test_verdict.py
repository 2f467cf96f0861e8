"""The verdict of a poc: the stated rule, and what too few windows cannot show."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.measure.decision.verdict import Measured, compare_right, decide

N = 400
DENSE = "dense float32"


def right(wrong: int, n: int = N, seeds: int = 3, first: int = 0) -> dict[int, DoubleArray]:
    """All right but `wrong` windows, from `first` on, the same ones with every seed."""
    row = np.ones(n)
    row[first : first + wrong] = 0.0
    return dict.fromkeys(range(seeds), row)


def model(wrong: int, p50: float, n: int = N, first: int = 0, *, has_bundle: bool = True) -> Measured:
    return Measured(right(wrong, n, first=first), p50, 2.0 / p50, has_bundle)


def test_the_fastest_model_that_is_not_worse_is_used() -> None:
    models = {DENSE: model(40, 2.0), "a": model(41, 1.5), "b": model(41, 1.2), "c": model(100, 0.5)}
    found = decide(models, DENSE, 0.03, None)
    assert (found["use"], found["why"]) == ("b", "fastest")
    assert found["models"]["c"]["state"] == "worse" and found["models"][DENSE]["state"] == "reference"


def test_dense_is_used_where_nothing_is_faster() -> None:
    found = decide({DENSE: model(40, 2.0), "a": model(40, 2.0)}, DENSE, 0.03, None)
    assert (found["use"], found["why"]) == (DENSE, "dense is fastest")


def test_equal_answers_of_few_windows_show_nothing() -> None:
    found = decide({DENSE: model(4, 2.0, 40), "a": model(4, 1.0, 40)}, DENSE, 0.03, None)
    assert (found["use"], found["why"]) == (DENSE, "none shown")
    row = found["models"]["a"]
    assert row["state"] == "not shown" and row["difference"]["low"] == pytest.approx(-3 / 40)
    assert 100 <= row["needed"] <= 300


def test_a_better_rival_is_used_though_it_has_no_bundle() -> None:
    rival = Measured(right(4), 30.0, None, has_bundle=False)
    found = decide({DENSE: model(80, 2.0), "a": model(80, 1.0), "rival": rival}, DENSE, 0.03, None)
    assert (found["use"], found["why"], found["has_bundle"]) == ("rival", "better", False)
    assert found["fastest"] == "a" and found["better"]["rival"]["low"] > 0


def test_windows_of_one_machine_show_nothing_of_the_next() -> None:
    one = np.array(["press 1"] * N)
    found = decide({DENSE: model(40, 2.0), "a": model(40, 1.0)}, DENSE, 0.03, one)
    assert found["use"] == DENSE and found["models"]["a"]["difference"]["low"] is None


def test_groups_and_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), N // 8).astype(str)
    # Four machines are lost whole, with another seed none.
    lost = np.where(np.isin(groups, ["0", "1", "2", "3"]), rng.random(N) < 0.5, True).astype(float)
    a, b = {0: lost, 1: np.ones(N)}, right(0, seeds=2)
    narrow, wide = compare_right({0: lost}, right(0, seeds=1), None), compare_right(a, b, groups)
    assert wide.groups == 8 and wide.seeds == 2
    assert wide.high is not None and wide.low is not None
    assert narrow.high is not None and narrow.low is not None
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_only_seeds_that_both_have_are_paired() -> None:
    a = {0: np.ones(N), 1: np.zeros(N)}
    assert compare_right(a, right(0, seeds=1), None).value == 0.0
