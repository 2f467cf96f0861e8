"""Samples to an even grid: order, holes, late and double samples, clocks that drift and jump."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream import Sample, TimeRule
from edgesparse_runtime.stream.timeline import CLOCK_BACK, ESTIMATE_FROM, estimate_period
from tests.support.recordings.streams import disturb, offline_segments, run_timeline, to_segments

PERIOD = 0.02


def at(time: float, *values: float) -> Sample:
    return Sample(np.array(values or (min(time, 1e30),), dtype=np.float32), time, 0.0)


def first_values(samples: list[Sample], rule: TimeRule) -> list[float]:
    return [float(step.values[0]) for step in run_timeline(samples, len(samples[0].values), rule)[0]]


RULE = TimeRule(period=1.0, max_gap=3)
PATIENT = TimeRule(period=1.0, lateness=2.0, max_gap=3)


def test_an_even_stream_passes_as_it_is() -> None:
    assert first_values([at(t) for t in range(5)], RULE) == [0, 1, 2, 3, 4]


def test_short_gaps_become_missing_and_carry_times() -> None:
    steps, counts, _ = run_timeline([at(0), at(1), at(4)], 1, RULE)
    assert [step.time for step in steps] == [0, 1, 2, 3, 4]
    assert [bool(np.isnan(step.values).all()) for step in steps] == [False, False, True, True, False]
    assert counts.filled == 2 and counts.restarts == 0


def test_the_limit_of_a_gap_is_exact() -> None:
    assert run_timeline([at(0), at(4)], 1, RULE)[1].restarts == 0
    steps, counts, _ = run_timeline([at(0), at(5)], 1, RULE)
    assert counts.restarts == 1 and counts.filled == 0
    assert [step.restarts for step in steps] == [False, True]


def test_samples_within_the_lateness_are_put_in_order() -> None:
    assert first_values([at(t) for t in (0, 2, 1, 3, 5, 4, 6)], PATIENT) == [0, 1, 2, 3, 4, 5, 6]


def test_later_ones_are_counted_and_not_used() -> None:
    steps, counts, _ = run_timeline([at(t) for t in (0, 1, 2, 3, 4, 5, 1, 6)], 1, PATIENT)
    assert [step.time for step in steps] == [0, 1, 2, 3, 4, 5, 6]
    assert counts.late == 1 and counts.duplicates == 0


def test_without_lateness_every_sample_is_placed_at_once() -> None:
    _, counts, timeline = run_timeline([at(0)], 1, RULE)
    assert len(list(timeline.push(at(1)))) == 1
    assert counts.late == 0


def test_a_second_sample_of_a_step_fills_in_what_the_first_lacks() -> None:
    nan = float("nan")
    samples = [at(0, 1, 1), at(1, 5, nan), at(1.01, 7, 6), at(2, 2, 2), at(3, 0, 0)]
    steps, counts, _ = run_timeline(samples, 2, PATIENT)
    assert steps[1].values.tolist() == [5, 6]
    assert counts.duplicates == 1
    # Without waiting the step is gone when the second one comes.
    steps, counts, _ = run_timeline(samples, 2, RULE)
    assert np.isnan(steps[1].values[1])
    assert counts.duplicates == 1


def test_a_clock_set_back_restarts_and_loses_nothing() -> None:
    samples = [at(100 + t) for t in range(20)] + [at(t) for t in range(20)]
    steps, counts, _ = run_timeline(samples, 1, RULE)
    assert counts.clock_back == 1 and counts.restarts == 1 and counts.late == 0
    assert [step.time for step in steps] == [100 + t for t in range(20)] + list(range(20))
    assert [step.restarts for step in steps].index(True) == 20


def test_a_few_stragglers_are_no_clock_set_back() -> None:
    stragglers = [at(t) for t in range(CLOCK_BACK - 1)]
    samples = [*(at(100 + t) for t in range(5)), *stragglers, *(at(105 + t) for t in range(5))]
    steps, counts, _ = run_timeline(samples, 1, RULE)
    assert counts.late == CLOCK_BACK - 1 and counts.clock_back == 0
    assert [step.time for step in steps] == [100 + t for t in range(10)]
    # Nor are many that come in no order.
    shuffled = [at(t) for t in (8, 3, 7, 2, 6, 1, 5, 4, 3, 2, 1)]
    counts = run_timeline([at(100), at(101), *shuffled, at(102)], 1, RULE)[1]
    assert counts.late == len(shuffled) and counts.clock_back == 0


@pytest.mark.parametrize("rule", [RULE, PATIENT])
@pytest.mark.parametrize("wild", [1e12, -1e12, 1e300, 45.0])
def test_a_wild_time_stamp_costs_nothing_but_itself(rule: TimeRule, wild: float) -> None:
    samples = [*(at(t) for t in range(30)), at(wild), *(at(t) for t in range(30, 60))]
    steps, counts, _ = run_timeline(samples, 1, rule)
    assert [step.time for step in steps] == list(range(60))
    assert counts.restarts == 0 and counts.late + counts.strays == 1
    # Waiting for order still works afterwards.
    if rule is PATIENT:
        assert first_values([*samples, at(61), at(60), at(62)], rule)[-3:] == [60, 61, 62]


def test_a_long_gap_is_believed_with_its_second_sample() -> None:
    _, counts, timeline = run_timeline([], 1, RULE)
    arrived = [list(timeline.push(at(t))) for t in (0, 1, 100, 101, 102)]
    assert [[step.time for step in steps] for steps in arrived] == [[0], [1], [], [100, 101], [102]]
    assert counts.restarts == 1
    # One that stands alone at the end is used as well.
    assert [step.time for step in run_timeline([at(0), at(1), at(100)], 1, RULE)[0]] == [0, 1, 100]


@pytest.mark.parametrize("error", [-0.004, 0.004])
def test_a_clock_that_runs_off_the_nominal_period_makes_no_holes(error: float) -> None:
    times = np.arange(20_000) * (1 + error)
    steps, counts, _ = run_timeline([at(float(t)) for t in times], 1, RULE)
    assert len(steps) == 20_000 and counts.filled == 0 and counts.duplicates == 0


def test_the_period_is_read_from_the_first_samples() -> None:
    rng = np.random.default_rng(0)
    times = (np.arange(200) + rng.uniform(-0.2, 0.2, 200)) * PERIOD
    lost = [3, 4, 5, 17, 90]
    samples = [at(float(t)) for i, t in enumerate(times) if i not in lost]
    steps, counts, timeline = run_timeline(samples, 1, TimeRule(max_gap=5))
    assert timeline.period == pytest.approx(PERIOD, rel=0.02)
    assert len(steps) == 200 and counts.filled == len(lost)
    # What comes before it is known waits, and is there at the end of a short stream too.
    short = [at(i * PERIOD) for i in range(ESTIMATE_FROM - 1)]
    assert len(run_timeline(short, 1, TimeRule())[0]) == ESTIMATE_FROM - 1


def test_a_period_of_equal_times_is_a_second() -> None:
    assert estimate_period([5.0, 5.0]) == 1.0
    assert estimate_period([7.0]) == 1.0


def test_samples_without_times_are_one_step_each() -> None:
    samples = [Sample(np.array([i], dtype=np.float32), None, 0.0) for i in range(4)]
    steps, counts, _ = run_timeline(samples, 1, TimeRule())
    assert [step.time for step in steps] == [0, 1, 2, 3] and counts.filled == 0


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_offline_twin(seed: int) -> None:
    max_gap = 20
    values = np.random.default_rng(seed).standard_normal((2, 30_000)).astype(np.float32)
    case = disturb(values, period=PERIOD, lateness=10 * PERIOD, max_gap=max_gap, seed=seed)
    rule = TimeRule(period=PERIOD, lateness=10 * PERIOD, max_gap=max_gap)
    steps, counts, _ = run_timeline(case.samples(), 2, rule)
    expected = offline_segments(case, max_gap)
    actual = to_segments(steps)
    assert len(expected) >= 2 and case.late > 5
    assert [x.shape for x in actual] == [x.shape for x in expected]
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert counts.late == case.late
    assert counts.restarts == len(expected) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"period": 0.0}, "`period` must be above 0 seconds; got 0."),
        ({"lateness": -1.0}, "`lateness` must be at least 0 seconds; got -1."),
        ({"max_gap": -1}, "`max_gap` must be at least 0 steps; got -1."),
    ],
)
def test_bad_rules_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as error:
        TimeRule(**arguments)  # type: ignore[arg-type]
    assert str(error.value) == message
