"""The monitor's statistics: twins in plain loops, blocks, tolerance, and the stated rate."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.stream.monitor.blocks import correlation_time, measure_blocks
from edgesparse_runtime.stream.monitor.detector import BETS, Detector
from edgesparse_runtime.stream.monitor.harm import HarmDetector
from edgesparse_runtime.stream.monitor.rate import Rate, parse_duration
from edgesparse_runtime.stream.monitor.reference import Learned, learn, parse_reference
from edgesparse_runtime.stream.monitor.signals import Signals
from edgesparse_runtime.stream.monitor.sketch import POINTS, ranks, sketch
from edgesparse_runtime.stream.monitor.watch import Watch


def ar(rho: float, count: int, signals: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise, found = rng.standard_normal((count, signals)), np.zeros((count, signals))
    for t in range(1, count):
        found[t] = rho * found[t - 1] + np.sqrt(1 - rho * rho) * noise[t]
    return found


def naive_evidence(means: np.ndarray, tolerance: np.ndarray) -> list[float]:
    """The combined evidence after each block, number by number."""
    state = {(side, bet, i): 0.0 for side in (1, -1) for bet in BETS for i in range(means.shape[1])}
    found = []
    for row in means:
        for (side, bet, i), value in state.items():
            if not np.isnan(row[i]):
                gain = side * (row[i] - 0.5) - tolerance[i]
                state[side, bet, i] = (value + 1) * (1 + bet / (0.5 + tolerance[i]) * gain)
        found.append(sum(state.values()) / len(state))
    return found


def test_detector_equals_its_twin() -> None:
    rng = np.random.default_rng(1)
    means, tolerance = rng.random((60, 5)), rng.uniform(0.01, 0.2, 5)
    means[7:9, 2] = np.nan
    detector = Detector(tolerance)
    found = [float(detector.update(row)) for row in means]
    np.testing.assert_allclose(found, naive_evidence(means, tolerance), rtol=1e-9)


def test_streams_of_one_detector_are_streams_of_their_own() -> None:
    rng = np.random.default_rng(2)
    means, tolerance = rng.random((30, 4, 6)), rng.uniform(0.01, 0.2, (4, 6))
    together = Detector(tolerance)
    for block in means:
        together.update(block)
    for r in range(6):
        apart = Detector(tolerance[:, r])
        for block in means:
            apart.update(block[:, r])
        np.testing.assert_allclose(together.combined[r], apart.combined, rtol=1e-12)


def test_evidence_never_falls_below_zero_and_no_bet_loses_all() -> None:
    detector = Detector(np.full(3, 0.2))
    for mean in (0.0, 1.0, 0.0, 1.0):
        detector.update(np.full(3, mean))
        assert (detector.evidence > 0).all()


def naive_rank(points: np.ndarray, value: float) -> float:
    below, equal = sum(p < value for p in points), sum(p == value for p in points)
    return (below + equal / 2) / POINTS


def test_ranks_equal_their_twin_and_share_ties() -> None:
    rng = np.random.default_rng(3)
    values = np.stack([rng.normal(size=500), rng.integers(0, 2, 500), np.ones(500)], axis=1)
    points = sketch(values)
    found = ranks(points, values)
    for i in range(3):
        np.testing.assert_allclose(found[:40, i], [naive_rank(points[i], v) for v in values[:40, i]])
    np.testing.assert_allclose(found.mean(axis=0), 0.5, atol=0.01)
    assert np.isnan(ranks(points, np.full((1, 3), np.nan))).all()


@pytest.mark.parametrize(("rho", "expected"), [(0.0, 0.7), (0.9, 9.5), (0.98, 49.5)])
def test_correlation_time_is_measured(rho: float, expected: float) -> None:
    assert correlation_time(ar(rho, 50_000, 1)[:, 0]) == pytest.approx(expected, rel=0.3)


def test_a_block_is_ten_correlation_times_and_holds_the_overlap() -> None:
    blocks = measure_blocks(ar(0.9, 20_000, 2) * 0.1 + 0.5)
    assert 80 <= blocks.windows <= 240
    assert measure_blocks(np.random.default_rng(0).random((4000, 1)), overlap=33).windows >= 33


def test_a_small_reference_is_said_aloud() -> None:
    reference = learn(["a"], ar(0.98, 2_000, 1), Learned(2_000))
    assert "no rate can be promised" in reference.blocks.problem
    assert not learn(["a"], ar(0.0, 2_000, 1), Learned(2_000)).blocks.problem


def test_groups_widen_the_tolerance() -> None:
    values = np.random.default_rng(0).random((2_000, 1))
    groups = np.repeat(["1", "2", "3", "4"], 500)
    values[:500] += 0.3
    alone = learn(["a"], values, Learned(2_000)).blocks.tolerance[0]
    assert learn(["a"], values, Learned(2_000), groups=groups).blocks.tolerance[0] > alone


def test_stationary_streams_keep_the_rate_and_a_shift_is_found() -> None:
    """A small form of `make prove-operate`: 8 streams of 40 blocks, at one false alarm in 200 blocks."""
    false = found = 0
    for seed in range(8):
        values = ar(0.9, 12_000, 3, seed)
        reference = learn("abc", values[:8_000], Learned(8_000))
        for shift in (0.0, 1.0):
            watch = Watch(reference, threshold=200.0)
            later = values[8_000:] + np.array([shift, 0, 0])
            alarms = [a for row in later if (a := watch.add(row)) is not None]
            false += shift == 0 and len(alarms) > 0
            found += shift > 0 and len(alarms) > 0
            if shift:
                assert alarms[0].carriers[0].signal == "a"
                assert alarms[0].carriers[0].direction == "higher"
    assert false <= 3
    assert found == 8


def test_watch_takes_windows_in_any_batches() -> None:
    """Evidence does not depend on when waiting windows were ranked or the state was stored."""
    values = ar(0.5, 6_000, 2)
    reference = learn("ab", values[:4_000], Learned(4_000))
    whole, parts = Watch(reference, 1e9), Watch(reference, 1e9)
    for i, row in enumerate(values[4_000:]):
        whole.add(row)
        parts.add(row)
        if i % 7 == 0:
            state = parts.to_dict()
            parts = Watch(reference, 1e9)
            parts.restore(state)
    np.testing.assert_allclose(whole.detector.evidence, parts.detector.evidence, rtol=1e-9)
    assert whole.windows == parts.windows == 2_000


def test_faulty_windows_are_a_rule_and_no_evidence() -> None:
    reference = learn("a", ar(0.0, 1_000, 1), Learned(1_000))
    watch = Watch(reference, 100.0)
    alarms = [watch.add(np.array([9.0]), faults=("current: flat",)) for _ in range(500)]
    (alarm,) = [a for a in alarms if a is not None]
    assert (alarm.kind, alarm.text, alarm.window) == ("data", "current: flat", 3)
    assert watch.evidence == 0.0


def test_harm_is_found_and_an_error_in_order_is_none() -> None:
    rng = np.random.default_rng(4)
    for error, is_found in ((0.05, False), (0.3, True)):
        detector = HarmDetector(0.1, block=10)
        evidence = []
        for wrong in rng.random(4_000) < error:
            detector.add(float(wrong))
            evidence.append(detector.combined)
        assert (max(evidence) > 1_000) is is_found


def test_contexts_are_compared_with_their_own() -> None:
    rng = np.random.default_rng(5)
    hours = [f"{i % 2:02d}" for i in range(4_000)]
    values = rng.standard_normal((4_000, 1)) + np.array([[4.0 * (i % 2)] for i in range(4_000)])
    reference = learn("a", values, Learned(4_000), context="hour", contexts=hours)
    assert set(reference.sketches) == {"", "00", "01"}
    found = reference.ranks(np.array([[4.0], [4.0]]), ["00", "01"])
    assert found[0, 0] > 0.99
    assert found[1, 0] == pytest.approx(0.5, abs=0.1)


def test_reference_survives_its_file() -> None:
    reference = learn("ab", ar(0.3, 2_000, 2), Learned(2_000, 4, 1.5, "week.csv"))
    again = parse_reference(reference.to_json().encode(), "x")
    assert again.sha256 == reference.sha256
    assert again.learned == reference.learned
    np.testing.assert_array_equal(again.sketches[""], reference.sketches[""])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"block": ', '"block": -'),
        ('"seconds_per_window": 1.5', '"seconds_per_window": NaN'),
        ("edgesparse.monitor/1", "edgesparse.monitor/9"),
        ('"signals": ["a", "b"]', '"signals": ["a"]'),
        ('"tolerance": [', '"tolerance": [1e999, '),
        ('{"schema"', "["),
    ],
)
def test_a_damaged_reference_is_refused_in_one_line(old: str, new: str) -> None:
    text = learn("ab", ar(0.3, 2_000, 2), Learned(2_000, 4, 1.5, "week.csv")).to_json()
    assert old in text
    with pytest.raises(InputError, match="must be a reference of `edgesparse monitor learn`"):
        parse_reference(text.replace(old, new, 1).encode(), "x.json")


def test_rates_are_read() -> None:
    assert Rate.parse("1/90d").in_windows(2.0) == 90 * 86_400 / 2
    assert Rate.parse("2/100000w").in_windows(None) == 50_000
    assert parse_duration("7d", "--for") == 7 * 86_400
    with pytest.raises(InputError, match="State it in windows"):
        Rate.parse("1/90d").in_windows(None)
    for text in ("90d", "0/90d", "1/0d", "1/90y", ""):
        with pytest.raises(InputError, match="`--false-alarms` must be a count per time"):
            Rate.parse(text)


def naive_signals(window: np.ndarray) -> list[float]:
    """Level, spread and relation of two channels, missing values left out."""
    first, second = (row[~np.isnan(row)] for row in window)
    both = ~np.isnan(window).any(axis=0)
    products = (window[0, both] - first.mean()) * (window[1, both] - second.mean())
    size = first.std() * second.std()
    relation = products.mean() / size if size else 0.0
    return [first.mean(), second.mean(), first.std(), second.std(), relation]


@pytest.mark.parametrize("missing", [0, 9])
def test_signals_equal_their_twin(missing: int) -> None:
    rng = np.random.default_rng(6)
    window = (rng.standard_normal((2, 50)) + np.array([[1000.0], [-3.0]])).astype(np.float32)
    window[0, :missing] = np.nan
    signals = Signals(("a", "b"), ("x", "y"))
    assert signals.names == (
        *("level.a", "level.b", "spread.a", "spread.b", "relation.a~b"),
        *("top_score", "class.x", "class.y"),
    )
    scores = np.array([[0.2, 0.8]], dtype=np.float32)
    found = signals.of_windows(window[None], scores)[0]
    np.testing.assert_allclose(found[:5], naive_signals(window.astype(np.float64)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[5:], [0.8, 0.0, 1.0], rtol=1e-6)


def test_a_channel_without_a_value_has_no_signal() -> None:
    window = np.ones((1, 2, 8), dtype=np.float32)
    window[0, 1] = np.nan
    found = Signals(("a", "b")).of_windows(window, np.zeros((1, 0), np.float32))[0]
    np.testing.assert_array_equal(np.isnan(found), [False, True, False, True, True])


def test_routing_of_a_diagonal_is_near_and_sparse() -> None:
    near, far = np.eye(8, dtype=bool)[None, None], np.eye(8, dtype=bool)[None, None, :, ::-1]
    signals = Signals((), layers=2)
    values = signals.of_windows(None, np.zeros((1, 0), np.float32), [near, far])[0]
    found = dict(zip(signals.names, values, strict=True))
    assert found["density.0"] == found["density.1"] == 1 / 8
    assert found["distance.0"] == 0 < found["distance.1"]
    assert found["entropy.0"] == pytest.approx(1)
