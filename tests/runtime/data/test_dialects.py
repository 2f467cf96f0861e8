"""Numbers, labels, encodings and lines as other programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.readers.labels import class_name
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


def read(folder: Path, content: str | bytes, name: str = "x.csv", **options: object) -> SeriesSet:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_dataset(folder / name, ReadOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (["1", "1.0", "1.00", "1.", "+1", " 1 "], "1"),
        (["-1", "-1.0"], "-1"),
        (["0", "-0", "0.0"], "0"),
        (["1_1"], "1_1"),
        (["1_000"], "1_000"),
        (["007"], "007"),
        (["1e3"], "1e3"),
        (["1E2", "1E2 "], "1E2"),
        # The files of the UCR archive before 2018.
        (["2.0000000e+00", "2.0e+00", "2"], "2"),
        (["-1.0000000e+00", "-1"], "-1"),
        (["1.5000000e+00"], "1.5000000e+00"),
        (["0x1F"], "0x1F"),
        (["1.5"], "1.5"),
        (["inf"], "inf"),
        (["OFF"], "OFF"),
        (["a\u0308", "\u00e4"], "\u00e4"),
        ([b"walk"], "walk"),
        ([b"walk\0\0"], "walk"),
        (["", "NA", "NaN", "nan", "None", "null", "?", "N/A", None, float("nan"), b"NA"], ""),
        ([1, 1.0, np.int64(1), np.float32(1)], "1"),
        ([True], "True"),
    ],
)
def test_class_names(texts: list[object], name: str) -> None:
    assert {class_name(text) for text in texts} == {name}


def test_names_that_python_reads_as_numbers_stay_apart(tmp_path: Path) -> None:
    """Case label-numbers: four bearings became two classes."""
    rows = [f"{i},{i},{name}" for i, name in enumerate(["1_1", "11", "1_2", "12"])]
    data = read(tmp_path, "series,v,label\n" + "\n".join(rows))
    assert data.labels is not None
    assert data.labels.tolist() == ["1_1", "11", "1_2", "12"]
    with pytest.raises(InputError, match="row 2, column v must be a number; got '1_000'"):
        read(tmp_path, "v,w\n1_000,2\n")


@pytest.mark.parametrize("word", ["NA", "NaN", "None", "null", "?", "N/A", "#N/A", ""])
def test_a_missing_label_is_no_class(tmp_path: Path, word: str) -> None:
    with pytest.raises(InputError, match=r"label of the series from row 3 on must not be empty; got '"):
        read(tmp_path, f"series,v,label\n0,1,a\n1,2,{word}\n")
    # The same words are missing values in a channel.
    data = read(tmp_path, f"series,v,label\n0,1,a\n0,{word},a\n")
    assert np.isnan(data.series[0]).tolist() == [[False, True]]
    # A label that stands once holds for its series.
    data = read(tmp_path, f"series,v,label\n0,1,a\n0,2,{word}\n")
    assert data.labels is not None
    assert data.labels.tolist() == ["a"]


def test_a_window_has_the_mean_target(tmp_path: Path) -> None:
    """Case regression-window: it was the first in alphabetical order."""
    targets = [9.0, 9.5, 10.0, 10.5]
    data = read(
        tmp_path,
        "v,target\n" + "\n".join(f"{i},{t}" for i, t in enumerate(targets)),
        window=2,
        task="regression",
    )
    assert data.labels is not None
    assert data.labels.tolist() == [9.25, 10.25]
    assert data.notes[0].endswith("the target of a window is the mean over its steps.")


def test_a_window_has_the_class_of_most_of_its_steps(tmp_path: Path) -> None:
    labels = ["1", "1.0", "2", "2", "2", "2", "2", "1"]
    data = read(tmp_path, "v,label\n" + "\n".join(f"{i},{t}" for i, t in enumerate(labels)), window=4)
    assert data.labels is not None
    # Two of each: the earlier one.
    assert data.labels.tolist() == ["1", "2"]
    assert "2 of 2 windows are mixed, at least 50% of their steps have that class" in data.notes[0]


PLAIN = "series,time,v,w\n0,0.00,1.5,1000\n0,0.02,-2.25,2000\n0,0.04,3,3000\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "# logger 7\n# 2024\n" + PLAIN,
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace(",", ";").replace(".", ","),
        'series,time,v,w\n0,0.00,"1.5","1,000"\n0,0.02,-2.25,"2,000.0"\n0,0.04,"3","3,000"\n',
        PLAIN.replace("1.5", "+1.50e0"),
        PLAIN.replace("\n", ",\n"),
        "# " + PLAIN,
    ],
)
def test_every_dialect_is_the_same_data(tmp_path: Path, content: str | bytes) -> None:
    data = read(tmp_path, content)
    assert data.series[0].tolist() == [[1.5, -2.25, 3.0], [1000.0, 2000.0, 3000.0]]
    assert data.grid.period == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("v,w\n1,2\n\n\n3,x\n", "row 5, column w must be a number; got 'x'."),
        ('v,w\n"1\n",2\n3,x\n', "row 4, column w must be a number; got 'x'."),
        ("v,w\n1,2\u2028\n3,x\n", "row 3, column w must be a number; got 'x'."),
        ("v,w\n1,2\x0b\n3,x\n", "row 3, column w must be a number; got 'x'."),
        ("# note\nv,w\n1\n", "row 3 must have 2 cells; got 1."),
        ('v,w\n1,2\n"3,4\n5,6\n', "row 3"),
        ("0.5,1\n2,3\n", "must start with a header row that names the columns; the first row is numbers."),
        ("v;w\n1,125;2\n", "'1,125' may be a thousand or a decimal"),
        ("series,v,label\n1,1,a\n,2,a\n,3,b\n", "row 3: series must name the row's series; it is empty."),
        ("series,v,label\n1,1,a\nNA,2,b\n", "row 3: series must name the row's series; it is empty."),
        ("machine,v,label\nP1,1,a\n,2,b\n", "the group of the series from row 3 on must not be empty."),
    ],
)
def test_errors_name_the_true_line(tmp_path: Path, content: str, message: str) -> None:
    """Case row-numbers: blank lines and quoted line breaks shifted the count."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)


def test_a_japanese_file_names_its_cure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be UTF-8 text; .* iconv -f CP932 -t UTF-8 x.csv"):
        read(tmp_path, "時刻,振動\n1,2\n".encode("cp932"))


@pytest.mark.parametrize(
    ("text", "encoding", "cell"),
    [
        ("Zeit;Schwinggröße (g)\n1;2\n", "cp1252", "Schwinggröße (g)"),
        ("label,temp °C\na,1\n", "cp1252", "temp °C"),
        ("série,pression\n1,2\n", "cp1252", "série"),
        ("label,圧力 MPa\na,1\n", "cp932", "圧力 MPa"),
    ],
)
def test_the_encoding_that_is_named_reads_words(tmp_path: Path, text: str, encoding: str, cell: str) -> None:
    """German bytes are valid Shift-JIS too, which reads them as signs inside of words."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, text.encode(encoding))
    assert f"or --encoding {encoding}, which reads {cell!r}." in str(caught.value)


def test_a_column_of_remarks_is_refused_with_the_channels_that_leave_it_out(tmp_path: Path) -> None:
    content = "time,振動 [g],備考,電流 [A],state,label\n0,1,良,2,x,a\n1,1,良,2,x,a\n"
    with pytest.raises(InputError, match=r"Give --channels '振動 \[g\],電流 \[A\]' to leave it out\."):
        read(tmp_path, content)


def test_bytes_are_text(tmp_path: Path) -> None:
    """Case byte-strings: classes were called b'walk'."""
    np.savez(
        tmp_path / "x.npz", X=np.zeros((2, 1, 4)), y=np.array([b"walk", b"run"]), channels=np.array([b"ax"])
    )
    data = read_dataset(tmp_path / "x.npz")
    assert data.labels is not None
    assert (data.channels, data.labels.tolist()) == (("ax",), ["walk", "run"])
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"series": [0, 0], "v": [1, 2], "label": pyarrow.array([b"on", b"on"])})
    parquet.write_table(table, tmp_path / "x.parquet")
    data = read_dataset(tmp_path / "x.parquet")
    assert data.labels is not None
    assert data.labels.tolist() == ["on"]


def test_times_of_parquet_keep_their_order(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    seconds = [1729990799, 1729990800, 1729990801]
    kinds = {
        "zoned": pyarrow.array([s * 10**9 for s in seconds], pyarrow.timestamp("ns", tz="Europe/Berlin")),
        "local": pyarrow.array(seconds, pyarrow.timestamp("s")),
        "span": pyarrow.array([9, 10, 11], pyarrow.duration("s")),
        "hour": pyarrow.array([9, 10, 11], pyarrow.time32("s")),
        "words": pyarrow.array(["9:59:59", "10:00:00", "10:00:01"]).dictionary_encode(),
    }
    for name, times in kinds.items():
        shuffled = pyarrow.table({"time": times, "v": [0, 1, 2]}).take([2, 0, 1])
        parquet.write_table(shuffled, tmp_path / "x.parquet")
        data = read_dataset(tmp_path / "x.parquet")
        assert (name, data.series[0].tolist(), data.grid.period) == (name, [[0, 1, 2]], 1.0)


TS = "@problemName x\n@timeStamps {}\n@univariate true\n@classLabel {}\n@data\n"


def test_ts_labels_keep_their_case(tmp_path: Path) -> None:
    """Case ts-labels: OFF and Off became one class."""
    data = read(tmp_path, TS.format("false", "true OFF Off on") + "1,2:OFF\n\n2,?:Off\n5,6:on\n", "x.ts")
    assert data.labels is not None
    assert data.labels.tolist() == ["OFF", "Off", "on"]
    data = read(tmp_path, TS.format("false", "false") + "1,2\n3,4\n", "x.ts")
    assert ([x.tolist() for x in data.series], data.labels) == ([[[1, 2]], [[3, 4]]], None)
    text = (
        TS.format("true", "true a")
        + "(2,30),(0,10),(1,20):a\n(2024-01-30 10:00:00,1),(2024-01-30 9:59:00,0):a\n"
    )
    with pytest.raises(InputError, match="series 2, value 1: time must be of one form"):
        read(tmp_path, text, "x.ts")
    data = read(tmp_path, "\n".join(text.split("\n")[:-2]), "x.ts")
    assert data.series[0].tolist() == [[10, 20, 30]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1,2:OFF\n1,2:oops\n", "row 7: the label must be one of OFF, on; got 'oops'."),
        ("1,2\n", "row 6 must end in a label after a colon."),
        ("1,x:on\n", "row 6, channel 1, value 2 must be a number; got 'x'."),
        ("1,2:3,4:on\n", "row 6 must have 1 channel(s); got 2."),
    ],
)
def test_a_bad_ts_file_names_its_row(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, TS.format("false", "true OFF on") + lines, "x.ts")
    assert message in str(caught.value)


def test_time_before_channels_is_a_doubt(tmp_path: Path) -> None:
    """Case npz-orientation: X in Keras's order trained as 96 channels of 3 steps."""
    np.savez(tmp_path / "x.npz", X=np.zeros((12, 96, 3)))
    assert (
        "X has 96 channels of 3 steps: is it [n, time, channels]?"
        in read_dataset(tmp_path / "x.npz").notes[0]
    )
    np.savez(tmp_path / "x.npz", X=np.zeros((12, 3, 96)))
    assert not read_dataset(tmp_path / "x.npz").notes


def test_series_keep_their_names(tmp_path: Path) -> None:
    """Case series-ids: P7, P2 came back as 1, 2."""
    data = read(tmp_path, "series,machine,time,v\nP7,m1,0,1\nP7,m1,1,1\nP2,m2,5,1\nP2,m2,6,2\n")
    assert data.ids is not None and data.groups is not None and data.starts is not None
    assert (data.ids.tolist(), data.groups.tolist()) == (["P7", "P2"], ["m1", "m2"])
    assert data.starts.tolist() == ["0", "5"]
    assert data.take([1]).ids.tolist() == ["P2"]  # type: ignore[union-attr]


def test_arrays_of_other_names_are_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", X=np.zeros((2, 1, 20)), labels=np.array(["a", "b"]))
    data = read_dataset(tmp_path / "x.npz")
    assert data.labels is None
    assert data.notes[0].endswith("labels is not read; arrays are called X, y, group, channels, mask.")
