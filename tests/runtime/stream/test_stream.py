"""`Stream`: windows from samples of any form, the same scores as offline, everything counted."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import Record, Sample, SampleParser, Stream, StreamOptions, stream_scores
from edgesparse_runtime.stream.counts import Counts, Latencies
from edgesparse_runtime.stream.windows import RingBuffer
from tests.support.recordings.streams import disturb, offline_segments
from tests.support.synthetic import make_series
from tests.support.tolerances import ENGINES

PERIOD = 0.02


@pytest.fixture(scope="module")
def session(shared_bundle: Bundle) -> Session:
    return Session(shared_bundle, precision="float32", threads=1)


@pytest.fixture(scope="module")
def recording() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.concatenate(make_series(8, seed=3).series, axis=1)


def windows_of(segment: np.ndarray, window: int, stride: int) -> list[np.ndarray]:
    """The naive twin of `WindowScorer`'s cutting."""
    return [segment[:, i : i + window] for i in range(0, segment.shape[1] - window + 1, stride)]


def test_ring_buffer_is_a_sliding_view() -> None:
    ring = RingBuffer(2, 5)
    columns = np.arange(34, dtype=np.float32).reshape(2, 17)
    for i in range(17):
        ring.push(columns[:, i])
        if i >= 4:
            np.testing.assert_array_equal(ring.view(), columns[:, i - 4 : i + 1])


def test_disturbed_stream_scores_what_offline_windows_score(session: Session, recording: np.ndarray) -> None:
    case = disturb(recording, period=PERIOD, lateness=0.2, max_gap=20, seed=1)
    options = StreamOptions(window=400, stride=37, period=PERIOD, lateness=0.2, max_gap=20)
    stream = Stream(session, options)
    scores = [score for sample in case.samples() for score in stream.push(sample)] + list(stream.finish())
    segments = offline_segments(case, 20)
    expected = [(i, w) for i, segment in enumerate(segments) for w in windows_of(segment, 400, 37)]
    assert len(segments) > 1 and len(scores) == len(expected) > 20
    assert [score.segment for score in scores] == [i for i, _ in expected]
    assert [score.missing for score in scores] == [float(np.isnan(w).mean()) for _, w in expected]
    np.testing.assert_allclose(
        np.stack([score.values for score in scores]),
        session.predict(np.stack([w for _, w in expected])),
        rtol=ENGINES.relative,
        atol=ENGINES.absolute,
    )
    assert stream.counts.late == case.late > 0
    assert stream.counts.steps == sum(s.shape[1] for s in segments)
    assert stream.counts.samples == len(case.order)


def test_times_name_the_window(session: Session, recording: np.ndarray) -> None:
    samples = [(100 + PERIOD * k, recording[:, k]) for k in range(900)]
    scores = list(stream_scores(session, samples, StreamOptions(window=600, stride=100)))
    assert [round((score.time - 100) / PERIOD) for score in scores] == [599, 699, 799, 899]
    assert [round((score.start - 100) / PERIOD) for score in scores] == [0, 100, 200, 300]


def test_every_form_of_record_gives_the_same(session: Session, recording: np.ndarray) -> None:
    values = recording[:, :700]
    base = datetime(2026, 1, 1, tzinfo=UTC)
    start = base.timestamp()

    def iso(k: int) -> str:
        return datetime.fromtimestamp(start + PERIOD * k, UTC).isoformat()

    forms: dict[str, list[Record]] = {
        "values": [values[:, k] for k in range(700)],
        "lists": [values[:, k].tolist() for k in range(700)],
        "pairs": [(start + PERIOD * k, values[:, k]) for k in range(700)],
        "mappings": [
            {"t": iso(k), "voltage": values[1, k], "current": float(values[0, k]), "other": "x"}
            for k in range(700)
        ],
        "datetimes": [(datetime.fromtimestamp(start + PERIOD * k, UTC), values[:, k]) for k in range(700)],
        "datetime64": [
            (np.datetime64("2026-01-01") + np.timedelta64(20 * k, "ms"), values[:, k]) for k in range(700)
        ],
    }
    expected = session.predict(values[:, 0:600])[0]
    for name, records in forms.items():
        scores = list(stream_scores(session, records, StreamOptions(window=600, stride=50)))
        assert len(scores) == 3, name
        np.testing.assert_array_equal(scores[0].values, expected, err_msg=name)
        if name not in ("values", "lists"):
            assert scores[0].time == pytest.approx(start + PERIOD * 599), name


def test_machines_are_streams_of_their_own(session: Session, recording: np.ndarray) -> None:
    records = [
        {
            "machine": name,
            "time": PERIOD * k,
            "current": recording[0, k + shift],
            "voltage": recording[1, k + shift],
        }
        for k in range(620)
        for name, shift in (("press", 0), ("saw", 900))
    ]
    scores = list(stream_scores(session, records, StreamOptions(window=600, stride=20)))
    assert [(score.machine, score.segment) for score in scores] == [("press", 0), ("saw", 0)] * 2
    for score, shift in zip(scores, (0, 900, 20, 920), strict=True):
        np.testing.assert_array_equal(score.values, session.predict(recording[:, shift : shift + 600])[0])


def test_the_bundle_knows_window_stride_and_gap(session: Session) -> None:
    options = Stream(session).options
    assert (options.window, options.stride, options.max_gap) == (600, 150, 60)


def test_infinite_and_missing_values_are_missing(session: Session) -> None:
    records = [{"current": np.inf if k % 2 else 1.0, "voltage": None if k % 3 else k} for k in range(600)]
    stream = Stream(session)
    parser = SampleParser(session, stream.counts)
    scores = [score for record in records for score in stream.push(parser.to_sample(record))]
    assert len(scores) == 1 and scores[0].missing == pytest.approx((300 + 400) / 1200)
    assert np.isfinite(scores[0].values).all()
    assert stream.counts.not_finite == 300


def test_int8_windows_run_too(shared_bundle: Bundle, recording: np.ndarray) -> None:
    session = Session(shared_bundle, precision="int8", threads=1)
    scores = list(stream_scores(session, list(recording[:, :600].T)))
    np.testing.assert_array_equal(scores[0].values, session.predict(recording[:, :600])[0])


def test_deadlines_are_counted(session: Session) -> None:
    stream = Stream(session, StreamOptions(window=600, deadline=1e-9))
    sample = Sample(np.zeros(2, dtype=np.float32), None, 0.0)
    scores = [score for _ in range(601) for score in stream.push(sample)]
    assert [stream.is_late(score) for score in scores] == [True]
    assert stream.counts.deadline_missed == 1
    patient = Stream(session, StreamOptions(window=600, deadline=1e12))
    assert not patient.is_late(scores[0])


def test_latencies_take_constant_memory_and_are_right_to_five_percent() -> None:
    latencies = Latencies()
    values = np.random.default_rng(0).lognormal(-6, 1, 20_000)
    for value in values:
        latencies.add(float(value))
    for share in (0.5, 0.99):
        assert latencies.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.06)
    assert latencies.largest == values.max()
    assert Latencies().quantile(0.5) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "`window` must be at least 1 step; got 0."),
        ({"window": 3}, "`window` must be at least 8 steps for this model; got 3."),
        ({"stride": -1}, "`stride` must be at least 1 step; got -1."),
        ({"deadline": 0.0}, "`deadline` must be above 0; got 0."),
        ({"window": 100, "max_gap": 100}, "`max_gap` must be below the window's 100 steps"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    session: Session, options: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError) as error:
        Stream(session, StreamOptions(**options))  # type: ignore[arg-type]
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1.0], "A sample must have 2 value(s), current, voltage; got shape [1]."),
        ({"speed": 1.0}, "must name at least one of the channels current, voltage; got speed."),
        ((1.0, ["a", "b"]), "A sample's values must be numbers; got ['a', 'b']."),
        (("soon", [1.0, 2.0]), "A time stamp must be a time; got 'soon'."),
        ((float("nan"), [1.0, 2.0]), "A time stamp must be a time; got nan."),
        ((True, [1.0, 2.0]), "A time stamp must be a time; got True."),
    ],
)
def test_records_that_are_none_are_refused(session: Session, record: Record, message: str) -> None:
    with pytest.raises(InputError) as error:
        list(stream_scores(session, [record]))
    assert message in str(error.value)


def test_times_stay_of_one_kind(session: Session) -> None:
    with pytest.raises(InputError, match="must have a time stamp as those before it"):
        list(stream_scores(session, [(0.0, [1.0, 2.0]), [1.0, 2.0]]))
    with pytest.raises(InputError, match="must have no time stamp"):
        list(stream_scores(session, [[1.0, 2.0], (0.0, [1.0, 2.0])]))
    with pytest.raises(InputError, match="of the same form"):
        list(stream_scores(session, [(0.0, [1.0, 2.0]), ("2026-01-01", [1.0, 2.0])]))


def test_machines_are_bounded_and_the_others_go_on(session: Session) -> None:
    stream, parser = Stream(session), SampleParser(session, Counts())
    for k in [*range(1001), 0]:
        list(stream.push(parser.to_sample({"machine": str(k), "current": 1.0, "voltage": 1.0})))
    assert stream.counts.too_many_machines == 1
    assert stream.counts.samples == 1002 and len(stream.periods) == 1000


def test_a_series_set_of_another_machine_does_not_matter(session: Session, series: SeriesSet) -> None:
    """Many windows of the training set, streamed one after another, score as they do in a batch."""
    values = np.concatenate(series.series[:6], axis=1)
    scores = list(stream_scores(session, list(values.T), StreamOptions(stride=600)))
    np.testing.assert_allclose(
        np.stack([score.values for score in scores]),
        session.predict(series.take(range(6))),
        rtol=ENGINES.relative,
        atol=ENGINES.absolute,
    )
