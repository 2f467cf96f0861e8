"""Property: writing the same data another way never changes what is read, nor what a model answers.

The same of verbs, streams and servers: tests/system, runtime/stream and runtime/serving/test_invariance.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session
from tests.support.recordings.made_data import CLOCKS, EXAMPLES, START, Made, made, many, stamps, write
from tests.support.tolerances import ENGINES


def same(a: SeriesSet, b: SeriesSet, *, order: bool = True) -> None:
    """The same series under the same names."""
    assert a.ids is not None and b.ids is not None and a.labels is not None and b.labels is not None
    if order:
        assert a.ids.tolist() == b.ids.tolist()
    places = {name: i for i, name in enumerate(b.ids.tolist())}
    assert sorted(a.ids.tolist()) == sorted(places)
    assert a.channels == b.channels
    for x, name, label in zip(a.series, a.ids.tolist(), a.labels.tolist(), strict=True):
        np.testing.assert_array_equal(x, b.series[places[name]])
        assert label == b.labels[places[name]]


@many
@given(data=made(), clock=st.sampled_from(sorted(CLOCKS)), shuffle=st.none() | st.integers(0, 99))
def test_time_formats(tmp_path: Path, data: Made, clock: str, shuffle: int | None) -> None:
    plain = read_dataset(write(tmp_path / "a.csv", data))
    other = read_dataset(write(tmp_path / "b.csv", data, clock=clock, shuffle=shuffle))
    same(plain, other, order=shuffle is None)
    assert plain.grid.period == pytest.approx(0.02, rel=1e-6)
    assert other.grid.period == pytest.approx(0.02, rel=1e-3)


@many
@given(
    data=made(),
    delimiter=st.sampled_from([",", ";", "\t"]),
    comma=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quotes=st.booleans(),
    blank=st.sampled_from(["", "NA", "NaN", "null", "?"]),
    columns=st.none() | st.integers(0, 9),
)
def test_csv_dialects(
    tmp_path: Path,
    data: Made,
    delimiter: str,
    comma: bool,
    newline: str,
    encoding: str,
    quotes: bool,
    blank: str,
    columns: int | None,
) -> None:
    decimal = "," if comma and (delimiter != "," or quotes) else "."
    other = write(
        tmp_path / "b.csv",
        data,
        delimiter=delimiter,
        decimal=decimal,
        newline=newline,
        encoding=encoding,
        quotes=quotes,
        blank=blank,
        columns=columns,
    )
    same(read_dataset(write(tmp_path / "a.csv", data)), read_dataset(other))


@many
@given(data=made(), kind=st.sampled_from(["seconds", "timestamp", "zoned", "duration", "text"]))
def test_parquet(tmp_path: Path, data: Made, kind: str) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    all_stamps = [stamp for x in data.series for stamp in stamps(x.shape[1])]
    times = {
        "seconds": lambda: pyarrow.array([(s - START).total_seconds() for s in all_stamps]),
        "timestamp": lambda: pyarrow.array(all_stamps, pyarrow.timestamp("ms")),
        "zoned": lambda: pyarrow.array(all_stamps, pyarrow.timestamp("us", tz="Europe/Berlin")),
        "duration": lambda: pyarrow.array([s - START for s in all_stamps], pyarrow.duration("ms")),
        "text": lambda: pyarrow.array([CLOCKS["american"](s) for s in all_stamps]).dictionary_encode(),
    }[kind]()
    lengths = [x.shape[1] for x in data.series]
    flat = np.concatenate(data.series, axis=1)
    columns = {
        "series": pyarrow.array(np.repeat(data.names, lengths)),
        "time": times,
        **{f"c{i}": pyarrow.array(row, from_pandas=True) for i, row in enumerate(flat)},
        "label": pyarrow.array([name.encode() for name in np.repeat(data.labels, lengths).tolist()]),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "b.parquet")
    same(read_dataset(write(tmp_path / "a.csv", data)), read_dataset(tmp_path / "b.parquet"))


@many
@given(data=made(), padding=st.integers(0, 9))
def test_archives_and_ts_files(tmp_path: Path, data: Made, padding: int) -> None:
    table = read_dataset(write(tmp_path / "a.csv", data))
    longest = max(x.shape[1] for x in data.series) + padding
    batch = np.full((len(data.series), data.series[0].shape[0], longest), np.nan, dtype=np.float32)
    for row, x in zip(batch, data.series, strict=True):
        row[:, : x.shape[1]] = x
    np.savez(tmp_path / "b.npz", X=batch, y=np.array(data.labels), channels=np.array(table.channels))
    lines = [
        ":".join([*(",".join("?" if np.isnan(v) else repr(float(v)) for v in c) for c in x), label])
        for x, label in zip(data.series, data.labels, strict=True)
    ]
    head = "@timeStamps false\n@classLabel true 1_1 11 on läuft\n@data\n"
    (tmp_path / "c.ts").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    for name in ("b.npz", "c.ts"):
        found = read_dataset(tmp_path / name)
        assert found.labels is not None and table.labels is not None
        assert found.labels.tolist() == table.labels.tolist()
        for x, y in zip(found.series, table.series, strict=True):
            np.testing.assert_array_equal(x, y)


@many
@given(data=made(), window=st.integers(2, 8), stride=st.integers(1, 8), seed=st.integers(0, 99))
def test_windows_do_not_depend_on_the_order_of_rows(
    tmp_path: Path, data: Made, window: int, stride: int, seed: int
) -> None:
    options = ReadOptions(window=window, stride=stride, keeps_short=True)
    plain = read_dataset(write(tmp_path / "a.csv", data), options)
    other = read_dataset(write(tmp_path / "b.csv", data, clock="iso", shuffle=seed), options)
    windows = [
        sorted((name, x.tobytes()) for name, x in zip(found.ids, found.series, strict=True))  # type: ignore[arg-type]
        for found in (plain, other)
    ]
    assert windows[0] == windows[1]


@pytest.fixture(scope="module")
def sessions(shared_bundle: Bundle) -> dict[str, Session]:
    return {name: Session(shared_bundle, precision=name, threads=1) for name in ("float32", "int8")}


@settings(parent=many, max_examples=max(5, EXAMPLES // 4))
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 5),
    precision=st.sampled_from(["float32", "int8"]),
    batch=st.integers(1, 7),
)
def test_an_answer_depends_on_its_own_window_alone(
    sessions: dict[str, Session], seed: int, count: int, precision: str, batch: int
) -> None:
    """Alone, in a file, in another order, in batches of any size, padded: the same scores."""
    rng = np.random.default_rng(seed)
    session = sessions[precision]
    series = [
        rng.standard_normal((2, int(rng.choice([40, 77, 150])))).astype(np.float32) for _ in range(count)
    ]
    alone = np.concatenate([session.predict(x) for x in series])
    data = SeriesSet(series, ("current", "voltage"))
    tolerance = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
    order = rng.permutation(count)
    np.testing.assert_allclose(session.predict(data, batch_size=batch), alone, **tolerance)
    np.testing.assert_allclose(session.predict(data.take(order), batch_size=batch), alone[order], **tolerance)
    padded = np.pad(data.to_batch(), ((0, 0), (0, 0), (0, int(rng.integers(0, 60)))), constant_values=np.nan)
    np.testing.assert_allclose(session.predict(padded, batch_size=batch), alone, **tolerance)
    half = count // 2
    if half:
        parts = [session.predict(data.take(range(half))), session.predict(data.take(range(half, count)))]  # type: ignore[arg-type]
        np.testing.assert_allclose(np.concatenate(parts), alone, **tolerance)
