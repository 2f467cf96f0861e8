"""`evaluate --robustness` says what helps where a weak disturbance costs much, and only there."""

from __future__ import annotations

import pytest

from edgesparse_runtime.cli.checking.evaluate import hardening_hint
from edgesparse_runtime.evaluation.evaluate import STRENGTHS, Evaluation
from edgesparse_runtime.evaluation.metrics import Metric


def accuracy_of(value: float) -> Metric:
    return Metric("accuracy", value, value - 0.1, value + 0.1, 100)


def evaluation(**disturbed: float) -> Evaluation:
    """0.9 on the windows as they are."""
    rows = {
        name.replace("_", " "): [(s, accuracy_of(value)) for s in STRENGTHS]
        for name, value in disturbed.items()
    }
    return Evaluation([accuracy_of(0.9)], {}, rows)


def test_the_worst_disturbance_is_named() -> None:
    hint = hardening_hint(evaluation(noise=0.45, missing_stretch=0.7, gain=0.9))
    assert hint.startswith("noise of 0.05 costs 45 points.")
    assert "--set training.augment=0.5" in hint


@pytest.mark.parametrize("disturbed", [{"noise": 0.85}, {"gain": 0.2, "offset": 0.1}, {}])
def test_no_hint_where_it_would_not_help(disturbed: dict[str, float]) -> None:
    assert hardening_hint(evaluation(**disturbed)) == ""
