"""Metrics and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.evaluation.metrics import Metric, balanced_accuracy


def test_balanced_accuracy_is_the_mean_recall() -> None:
    truth = np.array(["ok"] * 90 + ["worn"] * 10)
    decided = np.array(["ok"] * 100)
    found = balanced_accuracy(truth, decided)
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high, found.n) == (0.5, 0.5, 100)


def test_its_interval_stays_between_nothing_and_all() -> None:
    truth = np.array(["1"] * 17 + ["2"] * 2 + ["10"])
    perfect = balanced_accuracy(truth, truth)
    assert (perfect.low, perfect.value, perfect.high) == (1.0, 1.0, 1.0)
    decided = truth.copy()
    decided[[0, 1, 17]] = "10"
    found = balanced_accuracy(truth, decided)
    assert 0.0 <= found.low < found.value < found.high <= 1.0
    assert found.value == pytest.approx((15 / 17 + 0.5 + 1.0) / 3)


def test_of_nothing_there_is_no_accuracy() -> None:
    nothing = np.array([], dtype=np.str_)
    found = balanced_accuracy(nothing, nothing)
    assert np.isnan(found.value)
    assert found.n == 0


def test_errors_are_shown_whatever_their_size() -> None:
    for size, shown in ((1e-6, "1.235e-06"), (1.0, "1.235"), (1e30, "1.235e+30")):
        assert str(Metric("mae", 1.23456 * size, size, 2 * size, 9)).startswith(f"{shown} [")
    assert str(Metric("accuracy", 0.9, 0.81239, 1.0, 50)) == "0.900 [0.812, 1.000] (n=50)"
