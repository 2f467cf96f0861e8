"""Rules of events: they keep the rate that was asked for, and the fit and the stream count alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgesparse_runtime.errors import InputError
from edgesparse_runtime.operation.events.detect import EventDetector
from edgesparse_runtime.operation.events.fit import fit_rule, fit_rules
from edgesparse_runtime.operation.events.model import describe, hold_out, plain_rule, poisson_interval
from edgesparse_runtime.operation.events.rule import EventRule, EventRules, parse_rules
from edgesparse_runtime.operation.events.timeline import Track, count_events
from tests.support.recordings import scored
from tests.support.recordings.scored import CLASSES

PER_ALARM = 10_000.0


def make_tracks(seed: int, count: int, steps: int = 3_000) -> list[Track]:
    """Recordings whose scores are correlated from window to window."""
    return scored.make_tracks(np.random.default_rng(seed), count, _noise, steps)


def _noise(rng: np.random.Generator, steps: int) -> npt.NDArray[np.float64]:
    return np.convolve(rng.standard_normal(steps + 40), 0.75 ** np.arange(40))[40 : steps + 40]


@pytest.fixture(scope="module")
def rule() -> EventRule:
    found = fit_rule("fault", 1, make_tracks(0, 5), PER_ALARM)
    assert found is not None
    return found


def test_false_alarms_on_new_recordings_keep_the_rate(rule: EventRule) -> None:
    new = make_tracks(1, 25)
    tally = count_events(rule, 1, new)
    allowed = tally.windows / PER_ALARM
    # Three deviations of a count above what was asked for; single windows over a half do not keep it.
    assert tally.false_alarms <= allowed + 3 * np.sqrt(allowed)
    assert tally.found > 0.9
    assert count_events(plain_rule("fault"), 1, new).false_alarms > 5 * allowed


def test_a_lower_rate_costs_delay_or_events(rule: EventRule) -> None:
    lower = fit_rule("fault", 1, make_tracks(0, 5), 1_000 * PER_ALARM)
    new = make_tracks(1, 10)
    before = count_events(rule, 1, new)
    if lower is not None:
        after = count_events(lower, 1, new)
        assert (np.mean(after.delays), -after.found) > (np.mean(before.delays), -before.found)
        assert after.false_alarms <= before.false_alarms


def test_no_rule_where_scores_know_nothing() -> None:
    rng = np.random.default_rng(3)
    tracks = [
        Track(np.full((400, 2), 0.5, dtype=np.float32), rng.choice(CLASSES, 400).astype("U8"), str(i))
        for i in range(2)
    ]
    assert fit_rules(CLASSES, ("fault",), tracks, 1e6) == [None]


def test_held_out_groups_are_counted_once() -> None:
    tracks = make_tracks(0, 4, 600)
    left = hold_out(CLASSES, ("fault",), tracks, 100.0)
    assert left is not None
    assert left["fault"].episodes == sum(len(t.episodes("fault")) for t in tracks)
    assert hold_out(CLASSES, ("fault",), [Track(t.scores, t.labels, "one") for t in tracks], 100.0) is None


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_detector_follows_the_rule(gap: float) -> None:
    rule = EventRule("fault", needed=2, windows=3, enter=0.6, leave=0.6 - gap, refractory=2)
    detector = EventDetector([rule], [0])
    scores = [0.7, 0.1, 0.7, 0.1, 0.4, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9]
    found = [(i, e.kind) for i, score in enumerate(scores) for e in detector.add([score])]
    # On with the second of three; off when none of the last three stays; then two windows are passed over.
    end = 5 if gap == 0 else 7
    assert found == [(2, "begin"), (end, "end"), (9 if gap == 0 else 10, "begin")]
    assert [event.kind for event in detector.restart()] == ["end"]
    assert detector.restart() == []


def test_rules_survive_their_file() -> None:
    rules = EventRules((EventRule("fault", 2, 3, 0.9, 0.4, 3),), "1/d", 0.5, {"recordings": 2})
    assert parse_rules(rules.to_json().encode(), "events.json", CLASSES) == rules


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"needed": 2', '"needed": 4'),
        ('"leave": 0.4', '"leave": 0.95'),
        ('"enter": 0.9', '"enter": NaN'),
        ('"name": "fault"', '"name": "other"'),
        ("edgesparse.events/1", "edgesparse.events/2"),
        ('"seconds_per_window": 0.5', '"seconds_per_window": -1'),
        ("}", ""),
    ],
)
def test_damaged_rules_are_refused(old: str, new: str) -> None:
    text = EventRules((EventRule("fault", 2, 3, 0.9, 0.4, 3),), "1/d", 0.5, {}).to_json()
    assert old in text
    with pytest.raises(InputError, match="must hold rules of `edgesparse events fit`"):
        parse_rules(text.replace(old, new).encode(), "events.json", CLASSES)


def test_poisson_intervals_are_exact() -> None:
    # Tables of Garwood's interval.
    assert poisson_interval(0) == pytest.approx((0, 3.689), abs=2e-3)
    assert poisson_interval(10) == pytest.approx((4.795, 18.390), abs=2e-3)
    figures = describe(count_events(plain_rule("fault"), 1, make_tracks(2, 1)), 2.0)
    assert figures["delay_s_median"] % 2.0 == 0
