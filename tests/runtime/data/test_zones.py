"""Time zones: what a file writes is stored, comes back as written, and is compared with that of training."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from edgesparse_runtime.data.for_model import grid_of, read_for_model
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet

STARTS = datetime(2026, 11, 2, 23, 59, 30)
# Windows of this many steps.
WINDOW = 20


def stamps(zone: str, shift: timedelta = timedelta()) -> list[str]:
    return [f"{STARTS + shift + timedelta(seconds=k):%Y-%m-%d %H:%M:%S}{zone}" for k in range(60)]


def write(folder: Path, times: list[str]) -> Path:
    path = folder / "x.csv"
    path.write_text("time,v\n" + "\n".join(f"{time},{k}" for k, time in enumerate(times)) + "\n")
    return path


def read(folder: Path, times: list[str]) -> SeriesSet:
    return read_dataset(write(folder, times), ReadOptions(window=WINDOW, needs_labels=False))


@pytest.mark.parametrize(
    ("written", "zone"),
    [("+09:00", "+09:00"), ("-0330", "-03:30"), ("Z", "+00:00"), (" JST", "+09:00"), ("", "local")],
)
def test_the_zone_of_a_file_is_known_and_starts_come_back_as_written(
    tmp_path: Path, written: str, zone: str
) -> None:
    data = read(tmp_path, stamps(written))
    assert data.grid.zone == zone
    assert data.starts is not None
    assert data.starts.tolist() == stamps(written)[::WINDOW]
    assert not data.notes


def test_the_same_moments_in_another_zone_are_the_same_windows(tmp_path: Path) -> None:
    """Two offsets in one file, as at the end of summer time, are one recording."""
    here = read(tmp_path, stamps("+02:00"))
    changes = stamps("+02:00")[:30] + stamps("+01:00", timedelta(hours=-1))[30:]
    there = read(tmp_path, changes)
    assert (here.grid.period, there.grid.zone) == (there.grid.period, "several")
    assert [x.tolist() for x in here.series] == [x.tolist() for x in there.series]


def test_counts_and_times_of_day_have_no_zone(tmp_path: Path) -> None:
    assert read(tmp_path, [str(k) for k in range(60)]).grid.zone is None
    assert read(tmp_path, [time[11:] for time in stamps("")]).grid.zone is None


@pytest.mark.parametrize(
    ("trained", "written", "words"),
    [
        ("+09:00", "", "its times have no zone, those of training had (+09:00)"),
        ("local", "+09:00", "its times have a zone (+09:00), those of training had none"),
        ("+09:00", "Z", ""),
        ("local", "", ""),
        (None, "Z", ""),
    ],
)
def test_a_note_names_times_of_the_other_kind(
    tmp_path: Path, trained: str | None, written: str, words: str
) -> None:
    """The windows are the same either way; bundles made before zones were stored know none."""
    manifest = {"channels": [{"name": "v"}], "input": {"window": WINDOW, "period": 1.0}}
    if trained is not None:
        manifest["input"]["zone"] = trained  # type: ignore[index]
    assert grid_of(manifest).zone == trained
    data = read_for_model(write(tmp_path, stamps(written)), manifest, needs_labels=False)
    assert len(data) == 3
    assert (words in data.notes[0]) if words else not data.notes


def test_parquet_comes_back_in_utc(tmp_path: Path) -> None:
    """Parquet stores moments, and a zone to show them in."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    tokyo = timezone(timedelta(hours=9))
    moments = [(STARTS + timedelta(seconds=k)).replace(tzinfo=tokyo) for k in range(60)]
    column = pa.array(moments, pa.timestamp("us", tz="Asia/Tokyo"))
    table = pa.table({"time": column, "v": pa.array([float(k) for k in range(60)])})
    parquet.write_table(table, tmp_path / "x.parquet")
    data = read_dataset(tmp_path / "x.parquet", ReadOptions(window=WINDOW, needs_labels=False))
    assert data.starts is not None and data.grid.zone == "+00:00"
    assert [datetime.fromisoformat(start) for start in data.starts.tolist()] == moments[::WINDOW]
    assert data.starts[0].startswith(f"{moments[0].astimezone(UTC):%Y-%m-%dT%H:%M:%S}")
