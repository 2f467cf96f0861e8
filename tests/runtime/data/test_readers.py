"""Each data form, and one clear line for each bad file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.data.readers import ReadOptions, read_dataset, write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from tests.support.synthetic import make_series


def same(a: SeriesSet, b: SeriesSet) -> None:
    assert len(a) == len(b)
    for x, y in zip(a.series, b.series, strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(a.labels, b.labels)  # type: ignore[arg-type]


@pytest.fixture
def data() -> SeriesSet:
    data = make_series(6, steps=40, unequal=True)
    data.series[0][0, 3] = np.nan
    return data


def test_csv_round_trip(tmp_path: Path, data: SeriesSet) -> None:
    write_csv(tmp_path / "x.csv", data)
    again = read_dataset(tmp_path / "x.csv")
    same(data, again)
    assert again.channels == data.channels


def test_parquet_is_the_same_table(tmp_path: Path, data: SeriesSet) -> None:
    csv, parquet = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")
    write_csv(tmp_path / "x.csv", data)
    parquet.write_table(csv.read_csv(tmp_path / "x.csv"), tmp_path / "x.parquet")
    same(data, read_dataset(tmp_path / "x.parquet"))


def test_npz_round_trip(tmp_path: Path, data: SeriesSet) -> None:
    groups = np.array(["a", "b"] * 3)
    np.savez(tmp_path / "x.npz", X=data.to_batch(), y=data.labels, group=groups, channels=data.channels)
    again = read_dataset(tmp_path / "x.npz")
    same(data, again)
    assert again.channels == data.channels
    assert again.groups is not None
    assert again.groups.tolist() == groups.tolist()


def test_ucr_lines_end_where_the_values_end(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("1\t0.5\t0.25\tNaN\n-1.0\t1\t2\t3\n")
    data = read_dataset(tmp_path / "x.tsv")
    assert [x.tolist() for x in data.series] == [[[0.5, 0.25]], [[1.0, 2.0, 3.0]]]
    assert data.labels is not None
    assert data.labels.tolist() == ["1", "-1"]


def test_ts_files_of_sktime() -> None:
    sktime = pytest.importorskip("sktime.datasets")
    folder = Path(sktime.__file__).parent / "data"
    equal = read_dataset(folder / "BasicMotions" / "BasicMotions_TRAIN.ts")
    assert (len(equal), len(equal.channels), equal.series[0].shape) == (40, 6, (6, 100))
    unequal = read_dataset(folder / "JapaneseVowels" / "JapaneseVowels_TRAIN.ts")
    assert not unequal.is_equal_length()
    assert len(unequal) == 270


def test_recordings_are_cut_into_windows(tmp_path: Path) -> None:
    rows = ["machine,x,label"] + [f"m{i // 10},{i},{'on' if i % 10 >= 4 else 'off'}" for i in range(20)]
    (tmp_path / "x.csv").write_text("\n".join(rows))
    data = read_dataset(tmp_path / "x.csv", ReadOptions(window=4, stride=3))
    assert [x[0, 0] for x in data.series] == [0, 3, 6, 10, 13, 16]
    assert data.labels is not None
    assert data.labels.tolist() == ["off", "on", "on"] * 2
    assert data.groups is not None
    assert data.groups.tolist() == ["m0"] * 3 + ["m1"] * 3


def test_windows_of_one_recording_are_a_group(tmp_path: Path) -> None:
    rows = ["series,x,label"] + [f"{'ba'[i // 10]},{i},{'on' if i % 10 >= 4 else 'off'}" for i in range(20)]
    (tmp_path / "x.csv").write_text("\n".join(rows))
    data = read_dataset(tmp_path / "x.csv", ReadOptions(window=4))
    assert data.groups is not None
    assert data.groups.tolist() == ["0", "0", "1", "1"]
    (tmp_path / "one.csv").write_text("\n".join(rows[:11]))
    assert read_dataset(tmp_path / "one.csv", ReadOptions(window=4)).groups is None
    assert read_dataset(tmp_path / "one.csv", ReadOptions(window=10)).groups is None


def test_rows_are_put_in_time_order(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("series;time;x\na;2;20\nb;1;5\na;10;30\na;1;10\n")
    data = read_dataset(tmp_path / "x.csv")
    assert [x.tolist() for x in data.series] == [[[10.0, 20.0, 30.0]], [[5.0]]]


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("part,state,a,b\n1,ok,1,2\n1,ok,3,4\n")
    options = ReadOptions(series_column="part", label_column="state", channels=("b",))
    data = read_dataset(tmp_path / "x.csv", options)
    assert data.series[0].tolist() == [[2.0, 4.0]]
    with pytest.raises(InputError, match=r"must have a column stat; .* Did you mean state"):
        read_dataset(tmp_path / "x.csv", ReadOptions(label_column="stat"))


def test_regression_targets_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("1.5\t1\t2\nhigh\t1\t2\n")
    with pytest.raises(InputError, match="target of series 2 must be a number; got 'high'"):
        read_dataset(tmp_path / "x.tsv", ReadOptions(task="regression"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "must hold data; it is empty."),
        ("x.csv", b"series,x\n", "there is a header and nothing else."),
        ("x.csv", b"\n1,2\n", "the first row is empty."),
        ("x.csv", b"series,x,x\n1,2,3\n", "x stands twice."),
        ("x.csv", b"series,,x\n1,2,3\n", "column 2 must have a name."),
        ("x.csv", b"series,x\n1,2\n1\n", "row 3 must have 2 cells; got 1."),
        ("x.csv", b"series,x\n1,2\n1,oops\n", "row 3, column x must be a number; got 'oops'."),
        ("x.csv", b"series,x\n1,inf\n", "row 2, column x must be finite; got infinity."),
        (
            "x.csv",
            b"series,x\n1,\n1,NA\n",
            "the series from row 2 on must hold at least one value; all are missing.",
        ),
        ("x.csv", b"series,label\n1,a\n", "must have a channel column besides series, label."),
        (
            "x.csv",
            b"series,x,label\n1,2,a\n1,3,b\n",
            "row 3: a series must have one label; got 'b' after 'a'.",
        ),
        ("x.csv", b"series,x,label\n1,2,\n", "label of the series from row 2 on must not be empty; got ''."),
        ("x.csv", b"a,b\n\xff\xfe,1\n", "must be UTF-8 text; byte 4 is not."),
        ("x.csv", b"a,b\n\x00,1\n", "it holds NUL bytes."),
        ("x.tsv", b"1\n", "row 1: a label and values must be separated by tabs."),
        ("x.tsv", b"1\t2\tx\n", "row 1, value 2 must be a number; got 'x'."),
        ("x.npz", b"PK nonsense", "must be a .npz archive of plain arrays; it is damaged or"),
        ("x.ts", b"1,2,3\n", "it has no @data line."),
        ("x.parquet", b"PAR1 nonsense", "must be a Parquet file; it is damaged or something else."),
        ("x.xlsx", b"?", "must end in .csv, .parquet, .npz, .tsv, .ts, .wav, .mat; got .xlsx."),
    ],
)
def test_a_bad_file_ends_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_dataset(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Z": np.zeros(3)}, "must hold an array X [n, channels, time]; it holds Z."),
        ({"X": np.zeros(3)}, "X must be numbers [n, channels, time]; got float64 [3]."),
        ({"X": np.array([["a", "b"]])}, "X must be numbers"),
        ({"X": np.zeros((2, 1, 3)), "y": np.zeros(3)}, "y must have shape [2]; got [3]."),
        ({"X": np.zeros((2, 1, 3)), "channels": np.array(["a", "b"])}, "must name 1 channels; got 2."),
        ({"X": np.array([[None, 1]], dtype=object)}, "it holds Python objects."),
    ],
)
def test_a_bad_archive_ends_in_one_line(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path / "x.npz")
    assert message in str(caught.value)


def test_a_missing_file_names_its_neighbor(tmp_path: Path) -> None:
    (tmp_path / "pump_TRAIN.csv").write_text("x\n1\n")
    with pytest.raises(InputError, match=r"Did you mean .*pump_TRAIN\.csv"):
        read_dataset(tmp_path / "pump_TRIAN.csv")


def test_series_are_cut_into_windows_too(tmp_path: Path) -> None:
    """None reaches from one series into the next."""
    rows = [f"{name},{t},{100 * number + t}" for number, name in enumerate("ab") for t in range(10)]
    (tmp_path / "x.csv").write_text("series,time,v\n" + "\n".join(rows) + "\n")
    data = read_dataset(tmp_path / "x.csv", ReadOptions(window=4, stride=3))
    assert [x[0].astype(int).tolist() for x in data.series] == [
        [first + i for i in range(4)] for first in (0, 3, 6, 100, 103, 106)
    ]
    with pytest.raises(InputError, match="`window` must be at most 10"):
        read_dataset(tmp_path / "x.csv", ReadOptions(window=11))
    # Rows in any order are the same windows.
    (tmp_path / "y.csv").write_text("series,time,v\n" + "\n".join(rows[:10][::-1] + rows[10:][::-1]) + "\n")
    again = read_dataset(tmp_path / "y.csv", ReadOptions(window=4, stride=3))
    assert [x.tolist() for x in again.series] == [x.tolist() for x in data.series]
