"""Streams from the first line to the last score: ordinary input is read rightly, or the fault is named."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import StreamOptions
from edgesparse_runtime.stream.write import ScoreWriter
from tests.support.recordings.streams import live
from tests.support.tolerances import ENGINES


@pytest.fixture(scope="module")
def session(shared_bundle: Bundle) -> Session:
    return Session(shared_bundle, precision="float32", threads=1)


def records(count: int, **keys: str) -> list[dict[str, object]]:
    names = {"time": "time", "current": "current", "voltage": "voltage"} | keys
    return [
        {names["time"]: 0.02 * k, names["current"]: np.sin(k / 3), names["voltage"]: np.cos(k / 3)}
        for k in range(count)
    ]


def as_json(rows: list[dict[str, object]]) -> list[str]:
    return [json.dumps(row) for row in rows]


@pytest.mark.parametrize("key", ["Time", "TIMESTAMP", "Timestamp", "T", "時刻", "Zeit", "ts"])
def test_the_time_is_found_in_any_case(session: Session, key: str) -> None:
    """A gap that nobody sees is joined over: the window lies across a hole of seconds."""
    rows = [row for row in records(400, time=key) if not 1.9 < float(str(row[key])) < 4.9]
    scores, stream, _ = live(session, as_json(rows))
    assert stream.counts.restarts == 1
    assert {score.segment for score in scores} == {0, 1}


@pytest.mark.parametrize("key", ["machine", "Machine", "DEVICE"])
def test_the_machine_is_found_in_any_case(session: Session, key: str) -> None:
    """Two machines whose samples are taken for those of one give a window that is neither's."""
    rows = [row | {key: name} for row in records(80) for name in ("P1", "P2")]
    header = ",".join(rows[0])
    for lines in (as_json(rows), [header, *(",".join(map(str, row.values())) for row in rows)]):
        scores, stream, _ = live(session, lines)
        assert {score.machine for score in scores} == {"P1", "P2"}
        assert stream.counts.duplicates == 0


@pytest.mark.parametrize(
    "names", [("P1", "P1 "), (1, 1.0, "1"), ("e\u0301", "\u00e9")], ids=["blanks", "numbers", "umlauts"]
)
def test_one_machine_in_several_spellings_is_one(session: Session, names: tuple[object, ...]) -> None:
    rows = [row | {"machine": names[i % len(names)]} for i, row in enumerate(records(80))]
    scores, stream, _ = live(session, as_json(rows))
    assert len(scores) == 9 and len({score.machine for score in scores}) == 1
    assert stream.counts.restarts == 0


def test_a_machine_that_is_null_has_no_name(session: Session) -> None:
    scores = live(session, as_json([row | {"machine": None} for row in records(80)]))[0]
    assert {score.machine for score in scores} == {""}


def test_a_switch_of_true_and_false_is_1_and_0(session: Session) -> None:
    """As in files; among numbers such a cell is no value."""
    lines = ["time,current,voltage", *(f"{0.02 * k},{k % 7},{k // 9 % 2}" for k in range(80))]
    words = [lines[0], *(line[:-1] + ("false", "TRUE")[int(line[-1])] for line in lines[1:])]
    expected = [score.values for score in live(session, lines)[0]]
    found, stream, _ = live(session, words)
    np.testing.assert_array_equal([score.values for score in found], expected)
    assert stream.counts.bad_cells == 0
    assert live(session, [*lines[:40], *words[40:]])[1].counts.bad_cells == 41


def test_a_time_column_that_no_record_has_ends_the_stream(session: Session) -> None:
    with pytest.raises(InputError, match="must have a column stamp; got current, time, voltage"):
        live(session, as_json(records(40)), time_column="stamp")
    assert live(session, as_json(records(40, time="Stamp")), time_column="stamp")[0]


def test_no_time_at_all_is_said(session: Session) -> None:
    rows = as_json(records(40, time="aeg"))
    scores, _, notes = live(session, rows)
    assert len(scores) == 4
    assert any("every sample is taken for one step" in note for note in notes)


def test_a_misspelt_channel_ends_the_stream(session: Session) -> None:
    with pytest.raises(InputError, match="voltage is missing from Voltage"):
        live(session, as_json(records(40, voltage="Voltage")))
    with pytest.raises(InputError, match="voltage is missing from volt"):
        live(session, as_json(records(40, voltage="volt")))
    # A stream that ends before has the same end.
    with pytest.raises(InputError, match="voltage is missing from volt"):
        live(session, as_json(records(20, voltage="volt")))


def test_a_channel_that_comes_now_and_then_is_no_misspelt_one(session: Session) -> None:
    rows = [row if k % 5 == 0 else row | {"voltage": ...} for k, row in enumerate(records(80))]
    rows = [{key: value for key, value in row.items() if value is not ...} | {"noise": 1} for row in rows]
    scores, stream, notes = live(session, as_json(rows))
    assert len(scores) == 9 and stream.counts.malformed == 0
    assert not any("no record has it" in note for note in notes)
    assert scores[0].missing == pytest.approx(0.375, abs=0.1)


def test_a_channel_that_never_comes_is_said(session: Session) -> None:
    rows = [{key: value for key, value in row.items() if key != "voltage"} for row in records(80)]
    scores, _, notes = live(session, as_json(rows))
    assert len(scores) == 9
    assert any("voltage: no record has it" in note for note in notes)


@pytest.mark.parametrize("cell", ["x", "1_1", "--", "1,5,5"])
def test_a_bad_cell_loses_that_cell_alone(session: Session, cell: str) -> None:
    table = [f"{0.02 * k:.2f};{k % 7};{cell if k == 9 else k % 5}" for k in range(40)]
    scores, stream, _ = live(session, ["time;current;voltage", *table])
    rows = [
        row | {"voltage": cell if k == 9 else k % 5, "current": k % 7} for k, row in enumerate(records(40))
    ]
    again = live(session, as_json(rows))[0]
    assert stream.counts.steps == 40 and stream.counts.malformed == 0
    assert stream.counts.bad_cells == 1
    assert [round(score.missing * 32) for score in scores] == [1, 1, 0, 0]
    np.testing.assert_array_equal([s.values for s in scores], [s.values for s in again])


def test_a_clock_coarser_than_the_samples_is_said_at_once(session: Session) -> None:
    """50 Hz with stamps cut to a tenth of a second: four of five samples share one with another."""
    lines = ["time,current,voltage", *(f"{k // 5 / 10},{k % 7},{k % 5}" for k in range(400))]
    # The model knows no period; one read from this clock would score a fifth of the samples as if all.
    with pytest.raises(InputError, match="the clock is coarser than the samples: 25 of the first 32"):
        live(session, lines)
    chosen = StreamOptions(period=0.1)
    _, stream, notes = live(session, lines, chosen)
    assert stream.counts.duplicates > 200
    assert any("the clock is coarser than the samples" in note for note in notes)
    early = live(session, lines[:120], chosen)[2]
    assert any("the clock is coarser than the samples" in note for note in early)
    fine = live(session, ["time,current,voltage", *(f"{k / 50},{k % 7},{k % 5}" for k in range(400))])[2]
    assert not any("coarser" in note for note in fine)
    # Samples that are sent three times are no sign of a coarse clock.
    thrice = [f"{k / 50},{k % 7},{k % 5}" for k in range(100) for _ in range(3)]
    assert live(session, ["time,current,voltage", *thrice])[1].counts.steps == 100


def with_period(session: Session, period: float) -> Session:
    """The session of a bundle that was trained on samples of this period."""
    assert session.bundle is not None
    manifest = session.bundle.manifest
    other = object.__new__(Session)
    other.__dict__.update(session.__dict__)
    facts: Any = {**manifest["input"], "period": period}
    other.bundle = replace(session.bundle, manifest={**manifest, "input": facts})  # type: ignore[arg-type]
    return other


def test_another_sampling_rate_is_refused(session: Session) -> None:
    lines = as_json(records(80))
    assert len(live(with_period(session, 0.02), lines)[0]) == 9
    assert len(live(with_period(session, 0.0205), lines)[0]) == 9
    for period in (0.01, 0.04, 0.025):
        with pytest.raises(
            InputError, match=f"must take {period:g} s, as in training; these .* every 0.02 s"
        ):
            live(with_period(session, period), lines)
    # Who states the period has been told, or knows.
    forced = StreamOptions(window=16, stride=8, period=0.02)
    assert len(live(with_period(session, 0.01), lines, forced)[0]) == 9


def test_of_many_machines_the_one_with_another_rate_is_left_out(session: Session) -> None:
    rows = records(80)
    lines = [json.dumps(row | {"machine": "good"}) for row in rows]
    lines += [json.dumps(row | {"machine": "slow", "time": 0.1 * k}) for k, row in enumerate(rows)]
    scores, stream, notes = live(with_period(session, 0.02), lines)
    assert {score.machine for score in scores} == {"good"} and len(scores) == 9
    assert stream.counts.wrong_period == 80 - 32
    assert any(note.startswith("slow: A step must take 0.02 s") for note in notes)


@pytest.mark.parametrize(
    "form",
    [
        "%Y/%m/%d %H:%M:%S.%f",
        "%Y-%m-%dT%H:%M:%S.%f+0900",
        "%d.%m.%Y %H:%M:%S.%f",
        "%m/%d/%Y %I:%M:%S.%f %p",
    ],
)
def test_times_are_read_as_in_files(session: Session, form: str) -> None:
    from datetime import datetime, timedelta

    base = datetime(2026, 11, 23, 11, 59, 59)
    lines = ["time,current,voltage"]
    lines += [f"{(base + timedelta(seconds=0.02 * k)).strftime(form)},{k % 7},{k % 5}" for k in range(80)]
    scores, stream, _ = live(session, lines)
    assert len(scores) == 9 and stream.counts.malformed == 0 and stream.counts.restarts == 0
    assert scores[1].time - scores[0].time == pytest.approx(0.16, abs=1e-3)


@pytest.mark.parametrize(
    ("zone", "first"),
    [
        ("", "2026-11-02T08:00:00.300000"),
        ("Z", "2026-11-02T08:00:00.300000Z"),
        ("+09:00", "2026-11-01T23:00:00.300000Z"),
    ],
)
def test_a_local_time_is_not_called_utc(session: Session, zone: str, first: str) -> None:
    """Scores carry UTC where the samples have a zone, and none where they have none."""
    rows = [f"2026-11-02T08:00:{0.02 * k:09.6f}{zone},{k % 7},{k % 5}" for k in range(80)]
    scores = live(session, ["time,current,voltage", *rows])[0]
    out = io.StringIO()
    ScoreWriter(out, "json", ()).write(scores[0], False)
    assert json.loads(out.getvalue())["time"] == first


def test_a_dead_sensor_is_said_with_every_score(session: Session) -> None:
    rows = [row | {"voltage": 3.25} for row in records(80)]
    scores, stream, notes = live(session, as_json(rows))
    assert stream.counts.faulty == 9
    assert notes == ["voltage: flat: its scores mean little; see `faults`"]
    assert [score.faults for score in scores] == [("voltage: flat",)] * 9
    assert [score.faults for score in live(session, as_json(records(80)))[0]] == [()] * 9
    out = io.StringIO()
    ScoreWriter(out, "json", ()).write(scores[0], False)
    assert json.loads(out.getvalue())["faults"] == ["voltage: flat"]


@pytest.mark.parametrize("seed", range(5))
def test_file_and_stream_give_the_same_windows_and_scores(
    session: Session, tmp_path: Path, seed: int
) -> None:
    """Jitter, lost samples, short and long gaps, repeated stamps; one rule of the grid for both."""
    trained = with_period(session, 0.02)
    assert trained.bundle is not None
    facts: Any = trained.bundle.manifest["input"]
    facts |= {"window": 64, "stride": 16}
    rng = np.random.default_rng(seed)
    there = np.flatnonzero(rng.random(1_500) > 0.02)
    there = there[~((there > 300) & (there < 304)) & ~((there > 700) & (there < 860))]
    times = 100 + 0.02 * (there + rng.uniform(-0.2, 0.2, len(there)))
    values = rng.standard_normal((len(there), 2)).astype(np.float32)
    lines = ["time,current,voltage"]
    for k, (time, row) in enumerate(zip(times, values, strict=True)):
        lines.append(f"{time:.6f},{row[0]:.6f},{row[1]:.6f}")
        if k % 200 == 50:
            lines.append(f"{time:.6f},9,9")
    path = tmp_path / "recording.csv"
    path.write_text("\n".join(lines) + "\n")
    data = read_for_model(path, trained.bundle.manifest, needs_labels=False)
    scores, stream, _ = live(trained, lines, StreamOptions())
    assert (stream.options.window, stream.options.stride) == (64, 16)
    assert stream.counts.restarts == 1 and stream.counts.filled > 10
    assert len(scores) == len(data.series) > 60
    expected = session.predict(data)
    np.testing.assert_allclose(
        np.stack([s.values for s in scores]), expected, rtol=ENGINES.relative, atol=ENGINES.absolute
    )
    missing = [float(np.isnan(window).mean()) for window in data.series]
    assert [score.missing for score in scores] == missing
