"""Influence finds what a model of a known rule looks at, within its budget; trust tells when it does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgesparse_runtime.explain.influence import (
    BUDGET,
    Decision,
    choose_segments,
    cut_evenly,
    keep_length,
    measure_influence,
    ranked,
    without_steps,
)
from edgesparse_runtime.explain.trust import judge_map, rank_correlation

STEPS = 320


class Rule:
    """A session whose decision is known: the mean of channel 1 in steps 100 to 140."""

    classes = ("normal", "bearing", "other")

    def __init__(self, start: int = 100, end: int = 140) -> None:
        self.start, self.end, self.calls = start, end, 0

    def predict(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.calls += len(windows)
        seen = np.nan_to_num(windows[:, 1, self.start : self.end]).mean(axis=1)
        logits = np.stack([np.zeros(len(seen)), 2 * seen, np.full(len(seen), -1.0)], axis=1)
        odds = np.exp(logits)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def window() -> npt.NDArray[np.float32]:
    x = np.random.default_rng(0).standard_normal((3, STEPS)).astype(np.float32)
    x[1, 100:140] += 2
    return x


def test_the_segment_and_the_channel_that_decide_come_first(window: npt.NDArray[np.float32]) -> None:
    rule = Rule()
    found = measure_influence(rule, window)  # type: ignore[arg-type]
    decision = Decision(1)
    assert rule.calls == found.predictions <= BUDGET
    first = ranked(found.segments(decision))[0]
    assert 100 - 20 <= found.fine.starts[first] < 140
    assert found.segments(decision)[first] > 0
    channels = found.of_channels(decision)
    assert channels.argmax() == 1 and channels[[0, 2]] == pytest.approx(0, abs=1e-6)
    # What speaks for one class speaks against another.
    assert found.of_channels(Decision(0))[1] < 0
    against = found.of_channels(Decision(1, 2))[1]
    assert against == pytest.approx(found.of_channels(Decision(1, 0))[1], rel=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("steps", [1, 3, 40, 5000])
def test_one_window_costs_under_thirty_predictions(channels: int, steps: int) -> None:
    fine, coarse = choose_segments(channels, steps)
    assert 1 + len(fine) + 2 * len(coarse) + (channels if channels > 1 else 0) <= BUDGET < 30
    assert fine[0][0] == 0 and fine[-1][1] == steps


def test_a_missing_end_is_no_padding(window: npt.NDArray[np.float32]) -> None:
    left = without_steps(window, 200, STEPS)
    assert not np.isnan(left[:, -1]).all()
    assert np.nanmean(left, axis=1) == pytest.approx(np.nanmean(window[:, :200], axis=1), abs=1e-5)
    nothing = keep_length(np.full_like(window, np.nan), window)
    assert np.isfinite(nothing[:, -1]).sum() == 1


def test_trust_tells_an_order_from_a_random_one(window: npt.NDArray[np.float32]) -> None:
    rule = Rule()
    found = measure_influence(rule, window)  # type: ignore[arg-type]
    values = found.per_step(Decision(1))
    good = judge_map(rule, window, values)  # type: ignore[arg-type]
    bad = judge_map(rule, window, 1 / (1e-3 + abs(values)))  # type: ignore[arg-type]
    assert good.holds and not bad.holds
    assert good.low < good.difference and bad.difference < good.difference


def test_a_rule_over_everything_is_not_trusted() -> None:
    """Where each step counts alike no order is better than another."""
    rule = Rule(0, STEPS)
    flat = np.ones((2, STEPS), dtype=np.float32)
    found = measure_influence(rule, flat)  # type: ignore[arg-type]
    assert not judge_map(rule, flat, found.per_step(Decision(1))).holds  # type: ignore[arg-type]


def test_sure_decisions_still_have_evidence() -> None:
    scores = np.array([[1.0, 1e-8]], dtype=np.float32)
    less = np.array([[1.0, 1e-6]], dtype=np.float32)
    assert Decision(0).evidence(scores)[0] > Decision(0).evidence(less)[0]


def test_segments_cover_every_step_once() -> None:
    for steps in (1, 7, 16, 17, 500):
        cut = cut_evenly(steps, 16)
        assert [a for a, _ in cut] == [0, *(b for _, b in cut[:-1])] and cut[-1][1] == steps


def test_rank_correlation_averages_ties() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert rank_correlation([1, 1, 2, 2], [1, 1, 2, 2]) == pytest.approx(1)
    assert np.isnan(rank_correlation([1, 1], [1, 2]))
