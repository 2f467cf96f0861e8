"""`bootstrap_interval`: reproducible, and as wide as the number of independent groups demands."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval


def test_the_mean_has_the_textbook_interval() -> None:
    values = np.random.default_rng(1).standard_normal(400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap_interval(values) == (low, high)


def test_rows_stay_together() -> None:
    """The ratio of two columns that always move together has no spread."""
    first = np.random.default_rng(1).uniform(1, 2, 50)
    pairs = np.stack([first, 2 * first], axis=1)
    ratio = bootstrap_interval(pairs, lambda draws: np.median(draws[..., 1], 1) / np.median(draws[..., 0], 1))
    assert ratio == pytest.approx((2.0, 2.0))


def test_alike_rows_of_a_cluster_count_once() -> None:
    """300 rows of three machines, each all right or all wrong, are three observations."""
    machines = np.repeat(["a", "b", "c"], 100)
    is_right = np.where(machines == "c", 0.0, 1.0)
    low, high = bootstrap_interval(is_right)
    assert high - low < 0.12
    low, high = bootstrap_interval(is_right, clusters=machines)
    assert (low, high) == (0.0, 1.0)


def test_one_cluster_or_no_value_has_no_interval() -> None:
    assert np.isnan(bootstrap_interval([1.0, 0.0, 1.0], clusters=["a"] * 3)).all()
    assert np.isnan(bootstrap_interval([])).all()
