"""Times to steps: order, gaps, repeats, clocks that start again or are too coarse, and glued recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.grid import place_rows
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

COUNT = np.arange(40)


def read(folder: Path, times: object, values: object = COUNT, **options: object) -> SeriesSet:
    rows = [f"{t},{v}" for t, v in zip(times, values, strict=True)]  # type: ignore[call-overload]
    (folder / "x.csv").write_text("time,v\n" + "\n".join(rows) + "\n")
    return read_dataset(folder / "x.csv", ReadOptions(**options))  # type: ignore[arg-type]


def steps(data: SeriesSet) -> list[list[float]]:
    return [[None if np.isnan(v) else v for v in x[0].tolist()] for x in data.series]


def note(data: SeriesSet) -> str:
    assert len(data.notes) == 1
    return data.notes[0]


def test_even_times_leave_rows_as_they_are(tmp_path: Path) -> None:
    jitter = 0.02 * COUNT + np.random.default_rng(0).uniform(-0.004, 0.004, 40)
    for times in (0.02 * COUNT, jitter):
        data = read(tmp_path, times)
        assert steps(data) == [COUNT.tolist()]
        assert data.grid.period == pytest.approx(0.02, rel=0.02)
        assert not data.notes


def test_a_short_gap_is_filled_and_a_long_one_restarts(tmp_path: Path) -> None:
    kept = np.delete(COUNT, [10, 11])
    data = read(tmp_path, 0.5 * kept, kept, window=20, stride=10)
    assert steps(data)[0] == [*range(10), None, None, *range(12, 20)]
    assert "2 steps are missing in short gaps" in note(data)
    # An hour's hole: two recordings, and no window that reaches across.
    times = np.where(COUNT < 20, 0.5 * COUNT, 3600 + 0.5 * COUNT)
    data = read(tmp_path, times, window=15, stride=5)
    assert [(w[0], w[-1]) for w in steps(data)] == [(0, 14), (5, 19), (20, 34), (25, 39)]
    assert "1 gap(s) longer than 10% of a window" in note(data)
    assert data.starts is not None
    assert data.starts.tolist() == ["0.0", "2.5", "3610.0", "3612.5"]
    # Whole series are taken apart too.
    assert steps(read(tmp_path, times)) == [list(range(20)), list(range(20, 40))]


def test_short_pieces_have_no_window_where_others_have_one(tmp_path: Path) -> None:
    """A stream scores whole windows only, and three steps between two gaps are too few for any model."""
    times = [*range(20), *range(50, 53), *range(80, 90)]
    options: dict[str, object] = {"window": 10, "keeps_short": True}
    assert [w[0] for w in steps(read(tmp_path, times, times, **options))] == [0, 10, 80]
    times = [*range(6), *range(50, 53)]
    assert [w[0] for w in steps(read(tmp_path, times, times, **options))] == [0, 50]


def test_rows_in_disorder_are_put_in_order(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(40)
    data = read(tmp_path, 0.1 * order, order)
    assert steps(data) == [COUNT.tolist()]
    assert "put in order" in note(data)
    # Two halves the wrong way round are one recording.
    halves = np.roll(COUNT, 20)
    assert steps(read(tmp_path, 0.1 * halves, halves)) == [COUNT.tolist()]


def test_a_repeated_time_counts_once(tmp_path: Path) -> None:
    times = [*range(20), 19, *range(20, 39)]
    data = read(tmp_path, times)
    assert steps(data) == [[*range(20), *range(21, 40)]]
    assert "1 rows repeat a time" in note(data)


def test_glued_recordings_are_noticed(tmp_path: Path) -> None:
    """Two recordings that both start at 0 were interleaved step by step."""
    data = read(tmp_path, np.tile(0.02 * np.arange(20), 2), window=10)
    assert [w[0] for w in steps(data)] == [0, 10, 20, 30]
    assert "2 recordings follow each other without a series column" in note(data)
    assert data.groups is not None
    assert data.groups.tolist() == ["0", "0", "1", "1"]


@pytest.mark.parametrize("offset", [0.0, 0.01, 0.007, 0.2])
def test_glued_recordings_need_not_share_their_times(tmp_path: Path, offset: float) -> None:
    one = 1000 + 0.02 * np.arange(40)
    data = read(tmp_path, np.concatenate([one, one + offset, one - offset]), np.arange(120), window=40)
    assert [w[0] for w in steps(data)] == [0, 40, 80]


def test_glued_recordings_of_a_coarse_clock_are_taken_apart(tmp_path: Path) -> None:
    one = np.arange(60) // 5 * 0.1
    data = read(tmp_path, np.tile(one, 2), np.arange(120), window=60)
    assert [w[0] for w in steps(data)] == [0, 60]


@pytest.mark.parametrize("seed", range(4))
def test_disorder_is_no_second_recording(tmp_path: Path, seed: int) -> None:
    """By chance some rows in disorder rise eight times in a row; stretches may be exchanged."""
    rng = np.random.default_rng(seed)
    rising = np.sort(rng.permutation(30)[:9])
    others = rng.permutation(np.setdiff1d(np.arange(30), rising))
    for order in (
        np.concatenate([others[:12], rising, others[12:]]),
        np.concatenate([np.arange(60).reshape(4, 15)[rng.permutation(4)].ravel(), [60]]),
    ):
        data = read(tmp_path, 0.02 * order, order)
        assert steps(data) == [sorted(order.tolist())]


def test_a_coarse_clock_is_spread(tmp_path: Path) -> None:
    """50 Hz with stamps cut to 0.1 s: five rows share each time."""
    data = read(tmp_path, [f"{0.1 * (i // 5):.1f}" for i in range(40)], window=10, stride=10)
    assert [w[0] for w in steps(data)] == [0, 10, 20, 30]
    assert "about 5 rows share each time" in note(data)
    assert data.grid.period == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([(65520 + i) % 65536 for i in range(40)], "a counter wraps after 65536"),
        ([(2**32 - 20 + i) % 2**32 for i in range(40)], "a counter wraps after 4.29497e+09"),
        ([f"23:59:{20 + i}" for i in range(40)], ""),
        (
            [f"23:59:{40 + i}" for i in range(20)] + [f"0:00:{i:02d}" for i in range(20)],
            "the time of day runs on over midnight",
        ),
        (
            [f"2024-10-27 02:59:{40 + i}" for i in range(20)]
            + [f"2024-10-27 02:00:{i:02d}" for i in range(20)],
            "an hour stands twice",
        ),
        (
            [f"2024-10-{26 + i // 24} {i % 24:02d}:00" for i in range(27)]
            + [f"2024-10-{26 + i // 24} {i % 24:02d}:00" for i in range(26, 39)],
            "an hour stands twice",
        ),
    ],
)
def test_clocks_that_start_again_run_on(tmp_path: Path, times: list[object], words: str) -> None:
    data = read(tmp_path, times)
    assert steps(data) == [COUNT.tolist()]
    assert [words in line for line in data.notes] == ([True] if words else [])


def test_a_zone_tells_the_hours_apart(tmp_path: Path) -> None:
    times = [f"2024-10-27 02:59:{40 + i}+02:00" for i in range(20)]
    times += [f"2024-10-27 02:00:{i:02d}+01:00" for i in range(20)]
    data = read(tmp_path, times)
    assert (steps(data), data.notes) == ([COUNT.tolist()], ())


def test_uneven_times_count_rows(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(3).exponential(5.0, 40))
    data = read(tmp_path, times)
    assert (steps(data), data.grid.period) == ([COUNT.tolist()], None)
    assert "not evenly spaced" in note(data)


def test_row_numbers_have_no_period(tmp_path: Path) -> None:
    assert read(tmp_path, COUNT).grid.period is None
    assert read(tmp_path, [f"{i}.5" for i in COUNT]).grid.period == 1.0


def test_a_missing_time_is_refused_with_its_row(tmp_path: Path) -> None:
    times = [f"{0.1 * i:.1f}" for i in range(40)]
    times[7] = ""
    with pytest.raises(InputError, match=r"row 9: column time must be a time; got ''"):
        read(tmp_path, times)


def test_another_rate_is_refused(tmp_path: Path) -> None:
    """50 Hz data scored by a 100 Hz model is a lie."""
    manifest = {"channels": [{"name": "v"}], "input": {"window": 10, "stride": 5, "period": 0.01}}
    (tmp_path / "a.csv").write_text("time,v\n" + "\n".join(f"{0.02 * i},{i}" for i in COUNT))
    with pytest.raises(
        InputError, match=r"every 0\.01 s \(100 Hz\), as in training; got every 0\.02 s \(50 Hz\)"
    ):
        read_for_model(tmp_path / "a.csv", manifest, needs_labels=False)
    (tmp_path / "b.csv").write_text("time,v\n" + "\n".join(f"{0.0105 * i},{i}" for i in COUNT))
    data = read_for_model(tmp_path / "b.csv", manifest, needs_labels=False)
    assert [w[0] for w in steps(data)] == [0, 5, 10, 15, 20, 25, 30]
    # What the user states goes first; a shorter series stays whole.
    data = read_for_model(tmp_path / "b.csv", manifest, ReadOptions(window=64), needs_labels=False)
    assert steps(data) == [COUNT.tolist()]


def test_a_forecaster_starts_from_the_end(tmp_path: Path) -> None:
    manifest = {
        "channels": [{"name": "v"}],
        "input": {"window": 12, "stride": 4},
        "forecast": {"channel": "v", "horizon": 4, "season": 0},
    }
    (tmp_path / "a.csv").write_text("time,v\n" + "\n".join(f"{i},{i}" for i in COUNT))
    assert steps(read_for_model(tmp_path / "a.csv", manifest, needs_labels=False)) == [list(range(32, 40))]
    assert len(read_for_model(tmp_path / "a.csv", manifest)) == 8


def test_place_rows_agrees_with_step_by_step() -> None:
    """The shortcut for even times gives what the grid gives."""
    rng = np.random.default_rng(0)
    for wobble in (0.04, 0.3):
        times = np.arange(200) + rng.uniform(-wobble / 2, wobble / 2, 200)
        placed = place_rows(times, 1.0, 5)
        assert [piece.tolist() for piece in placed.pieces] == [list(range(200))]
