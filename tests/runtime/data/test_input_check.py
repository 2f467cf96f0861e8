"""Dead sensors are said, and sensors in order are not."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.sensors.input_check import (
    InputCheck,
    _Facts,
    check_input,
    typical_of,
    typical_of_manifest,
)
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session

RNG = np.random.default_rng(0)
STEPS = 200


def window(level: float = 20.0) -> FloatArray:
    """Vibration around 0, a current around 5, a temperature that hardly moves, and a switch."""
    time = np.arange(STEPS)
    vibration = np.sin(time * 0.7) + 0.1 * RNG.standard_normal(STEPS)
    current = 5 + 0.5 * RNG.standard_normal(STEPS)
    temperature = np.full(STEPS, round(level, 1))
    switch = (time > STEPS // 2).astype(float)
    return np.stack([vibration, current, temperature, switch]).astype(np.float32)


NAMES = ("vibration", "current", "temperature", "switch")
TRAINING = [window(level) for level in np.linspace(18, 25, 50)]
CHECK = InputCheck(NAMES, typical_of(TRAINING))
UNKNOWN = InputCheck(NAMES)


def faults(check: InputCheck, x: FloatArray) -> list[str]:
    return [str(fault) for fault in check.check(x)]


def changed(channel: int, values: object) -> FloatArray:
    x = window()
    x[channel] = values
    return x


def test_windows_like_those_of_training_are_in_order() -> None:
    for level in np.linspace(17, 26, 20):
        assert faults(CHECK, window(level)) == []
    x = window()
    x[:, 50:90] = np.nan
    assert faults(CHECK, x) == []


@pytest.mark.parametrize(
    ("channel", "values", "fault"),
    [
        (0, 0.0, "vibration: flat"),
        (0, np.nan, "vibration: missing"),
        (0, 0.97, "vibration: flat"),
        (1, np.clip(5 + 0.5 * np.random.default_rng(1).standard_normal(STEPS), 4.8, 5.2), "current: clipped"),
        (1, 1e6 + np.random.default_rng(1).standard_normal(STEPS), "current: out of range"),
        (0, 100 * np.sin(np.arange(STEPS) * 0.7), "vibration: too strong"),
        (0, 0.01 * np.sin(np.arange(STEPS) * 0.7), "vibration: too weak"),
        (2, 180.0, "temperature: flat"),
    ],
)
def test_a_sensor_at_fault_is_named(channel: int, values: object, fault: str) -> None:
    assert faults(CHECK, changed(channel, values)) == [fault]


def test_a_sensor_that_stops_in_the_middle_of_its_range_is_stuck() -> None:
    x = window()
    x[0, 60:120] = x[0, 60]
    assert faults(CHECK, x) == ["vibration: stuck"]
    x[0, 85] = 0.7
    assert faults(CHECK, x) == []
    # A channel that rests by nature, and an older bundle, which does not know whether it does.
    resting = np.where(np.arange(STEPS) < 80, 0.0, RNG.standard_normal(STEPS)).astype(np.float32)
    check = InputCheck(("x",), typical_of([resting[None]] * 3))
    assert faults(check, resting[None]) == []
    known = [typical.to_dict() for typical in typical_of(TRAINING) if typical is not None]
    older = [{"typical": {k: v for k, v in facts.items() if k != "stuck"}} for facts in known]
    x[0, 60:120] = x[0, 60]
    assert faults(InputCheck(NAMES, typical_of_manifest({"channels": older})), x) == []


def test_a_short_window_that_is_stuck_has_few_values() -> None:
    short = [RNG.standard_normal((1, 12)).astype(np.float32) for _ in range(50)]
    check, x = InputCheck(("x",), typical_of(short)), short[0].copy()
    assert faults(check, x) == []
    x[0, 4:] = x[0, 4]
    assert faults(check, x) == ["x: stuck"]
    steps = np.repeat(RNG.integers(0, 4, (50, 1, 3)), 4, axis=2).astype(np.float32)
    assert faults(InputCheck(("x",), typical_of(list(steps))), steps[0]) == []


def test_swapped_channels_are_named() -> None:
    x = window()[[0, 2, 1, 3]]
    assert faults(CHECK, x) == ["current: swapped with temperature"]


def test_everything_missing_or_off_names_every_channel() -> None:
    nothing = np.full((4, STEPS), np.nan, dtype=np.float32)
    assert faults(CHECK, nothing) == [f"{name}: missing" for name in NAMES]
    assert "vibration: flat" in faults(CHECK, np.zeros((4, STEPS), dtype=np.float32))


def test_without_a_reference_only_what_needs_none_is_seen() -> None:
    assert faults(UNKNOWN, changed(0, 1e6 + np.sin(np.arange(STEPS)))) == ["temperature: flat"]
    assert faults(UNKNOWN, changed(1, np.nan))[0] == "current: missing"


def test_a_manifest_carries_what_is_typical() -> None:
    stored = [
        {"name": name, "typical": None if t is None else t.to_dict()}
        for name, t in zip(NAMES, typical_of(TRAINING), strict=True)
    ]
    assert typical_of_manifest({"channels": stored}) == typical_of(TRAINING)
    odd = [{"name": "a", "typical": {"low": "x"}}, {"name": "b"}, {"name": "c", "typical": 3}]
    assert typical_of_manifest({"channels": odd}) == [None, None, None]


def test_a_session_checks_every_window(shared_bundle: Bundle, series: SeriesSet) -> None:
    session = Session(shared_bundle)
    assert check_input(session, series) == [[]] * len(series)
    dead = [x.copy() for x in series.series[:3]]
    dead[1][1] = 0.5
    dead[2][:, 200:] = np.nan
    found = check_input(session, series.take([0, 1, 2]).with_series(dead))
    assert [list(map(str, window)) for window in found] == [
        [],
        ["voltage: flat"],
        ["current: missing", "voltage: missing"],
    ]


@pytest.mark.parametrize("steps", [1, 2, 7, 200])
def test_figures_of_a_window_are_those_of_numpy(steps: int) -> None:
    """Of a whole window, and of one with a missing value, whose other channels must not change."""
    x = np.round(RNG.normal(3.0, 2.0, (3, steps)), 1).astype(np.float32)
    holes = np.vstack([x, np.full((1, steps), np.nan, np.float32)])
    for facts in (_Facts(x), _Facts(holes)):
        np.testing.assert_array_equal(facts.high[:3], x.max(axis=1))
        np.testing.assert_array_equal(facts.low[:3], x.min(axis=1))
        np.testing.assert_array_equal(facts.level[:3], np.median(x, axis=1))
        np.testing.assert_allclose(facts.spread[:3], x.std(axis=1, dtype=np.float64), rtol=1e-12)
        ends = [max(np.mean(row == row.max()), np.mean(row == row.min())) for row in x]
        np.testing.assert_allclose(facts.at_end[:3], ends)
        np.testing.assert_array_equal(facts.is_flat[:3], (x == x[:, :1]).all(axis=1) & (steps > 1))
        np.testing.assert_array_equal(facts.missing[:3], 0.0)
    assert facts.missing[3] == 1.0
