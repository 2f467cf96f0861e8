"""A folder of recordings: what is a class, what a group, and what is refused (docs/guides/data.md)."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.cli.options import SpecOptions, TableOptions
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.readers.folder.name_pattern import NamePattern
from edgesparse_runtime.data.readers.spec import read_spec, spec_text
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from tests.support.processes import check_one_line, edgesparse
from tests.support.recordings.folders import CHANNELS, CLASSES, STEPS, VARIANTS, make_folder

NORMAL, FAULT = CLASSES


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("good") / "録音")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "録音")
    return tmp_path / "録音"


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(folder, ReadOptions(**options))  # type: ignore[arg-type]
    return str(caught.value)


def flat(folder: Path) -> Path:
    """The same recordings in no sub-folder: `P1_0.csv` normal, `P1_5.csv` faulty."""
    for path in sorted(folder.glob("*/*.csv")):
        machine, number = path.stem.split("_")
        path.rename(folder / f"{machine}_{int(number) + 5 * (path.parent.name == FAULT)}.csv")
    for kind in CLASSES:
        (folder / kind).rmdir()
    return folder


def test_a_sub_folder_is_a_class_and_its_files_are_series(good: Path) -> None:
    data = read_dataset(good)
    assert data.labels is not None and data.labels.tolist() == [NORMAL] * 6 + [FAULT] * 6
    assert data.channels == CHANNELS and data.units == ("m/s2", "A", "℃")
    assert data.ids is not None and data.ids[0] == f"{NORMAL}/P1_0.csv"
    assert data.grid.period == pytest.approx(0.01)
    assert {str(role) for role in data.roles} >= {
        "時刻 = time (by its name)",
        "the sub-folder = label (of each recording)",
    }


def test_windows_of_one_recording_are_one_group(good: Path) -> None:
    data = read_dataset(good, ReadOptions(window=100))
    assert len(data) == 12 * STEPS // 100
    assert data.groups is not None and len(set(data.groups)) == 12
    named = read_dataset(good, ReadOptions(window=100, label_from="{label}/{group}_*"))
    assert named.groups is not None and sorted(set(named.groups)) == ["P1", "P2", "P3"]


def test_a_group_of_the_names_is_called_group_and_each_file_file(good: Path) -> None:
    named = read_dataset(good, ReadOptions(label_from="{label}/{group}_*", group_column="group"))
    assert named.groups is not None and sorted(set(named.groups)) == ["P1", "P2", "P3"]
    files = read_dataset(good, ReadOptions(group_column="file"))
    assert (
        files.groups is not None and files.groups[0] == f"{NORMAL}/P1_0.csv" and len(set(files.groups)) == 12
    )
    assert "must name the group of each recording. State --label-from" in refusal(good, group_column="group")
    assert "must have a column machine" in refusal(good, group_column="machine")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_malformed_folder_is_read_rightly_or_refused(folder: Path, good: Path, name: str) -> None:
    variant = VARIANTS[name]
    variant.change(folder)
    if variant.words:
        message = refusal(folder)
        assert all(word in message for word in variant.words) and "\n" not in message, message
        return
    expected, found = read_dataset(good), read_dataset(folder)
    assert found.channels == expected.channels
    assert all(np.array_equal(a, b) for a, b in zip(found.series, expected.series, strict=True))


def test_an_encoding_that_is_stated_is_read(folder: Path, good: Path) -> None:
    for path in folder.glob("*/*.csv"):
        path.write_bytes(path.read_text(encoding="utf-8").encode("cp932"))
    assert "iconv -f CP932" in refusal(folder)
    found = read_dataset(folder, ReadOptions(encoding="cp932"))
    assert found.channels == CHANNELS
    assert np.array_equal(found.series[3], read_dataset(good).series[3])
    with pytest.raises(InputError, match="must be a text encoding"):
        ReadOptions(encoding="klingon")


@pytest.mark.parametrize(
    ("pattern", "name", "fields"),
    [
        ("{label}/{group}_*", "ok/P1_3.csv", {"label": "ok", "group": "P1"}),
        ("{group}_{label}", "any/P1_ok.csv", {"label": "ok", "group": "P1"}),
        ("{group}_{label}.csv", "P1_ok.csv", {"label": "ok", "group": "P1"}),
        (r"(?P<group>P\d)_(?P<label>[a-z]+)\d*", "P1_ok12.wav", {"label": "ok", "group": "P1"}),
        ("{label}/{group}_*", "P1_3.csv", None),
    ],
)
def test_names_hold_label_and_group(pattern: str, name: str, fields: dict[str, str] | None) -> None:
    assert NamePattern.parse(pattern).match(name) == fields


@pytest.mark.parametrize("pattern", ["*", "{class}_*", "{label}_{label}", "(?P<label>", "(?P<kind>x)"])
def test_a_pattern_without_a_meaning_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="--label-from"):
        NamePattern.parse(pattern)


def test_a_name_that_does_not_fit_is_refused_where_labels_are_needed(folder: Path) -> None:
    (folder / NORMAL / "P1_0.csv").rename(folder / NORMAL / "P1.csv")
    assert f"{NORMAL}/P1.csv must fit" in refusal(folder, label_from="{label}/{group}_*")
    data = read_dataset(folder, ReadOptions(label_from="{label}/{group}_*", needs_labels=False))
    assert len(data) == 12 and data.labels is None and data.groups is None


def write_labels(folder: Path, *rows: str, header: str = "file,label,group,start,end") -> None:
    (folder / "labels.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")


def test_a_table_names_label_and_group_of_each_file(folder: Path) -> None:
    names = sorted(path.stem for path in flat(folder).glob("*.csv"))
    rows = [f"{name},{'ok' if int(name[-1]) < 5 else 'bad'},{name[:2]}" for name in names]
    write_labels(folder, *rows, header="file,label,group")
    data = read_dataset(folder)
    assert data.labels is not None and data.groups is not None
    assert list(zip(data.groups, data.labels, strict=True))[:3] == [("P1", "ok"), ("P1", "ok"), ("P1", "bad")]
    write_labels(folder, *rows[1:], header="file,label,group")
    assert "P1_0.csv must have a row" in refusal(folder)
    assert len(read_dataset(folder, ReadOptions(needs_labels=False))) == 12


def intervals(folder: Path, *rows: str) -> SeriesSet:
    """Two recordings with labeled intervals; the second one is normal from the start to its end."""
    for path in sorted(flat(folder).glob("*.csv"))[2:]:
        path.unlink()
    write_labels(folder, *rows, "P1_1.csv,ok,P1,,4.1")
    return read_dataset(folder, ReadOptions(window=50))


def test_intervals_within_a_recording_have_their_own_labels(folder: Path) -> None:
    data = intervals(folder, "P1_0.csv,ok,P1,0,1.5", "P1_0,bad,P1,2026/11/02 08:00:02,2026/11/02 08:00:03.20")
    assert data.labels is not None and data.labels.tolist() == ["ok"] * 3 + ["bad"] * 2 + ["ok"] * 8
    assert data.starts is not None and data.starts[3] == "2026/11/02 08:00:02.00"
    # Both pieces come from one recording of one machine.
    assert data.groups is not None and set(data.groups) == {"P1"}


def test_pieces_of_one_recording_are_one_group_where_none_is_named(folder: Path) -> None:
    for path in sorted(flat(folder).glob("*.csv"))[2:]:
        path.unlink()
    write_labels(folder, "P1_0,ok,0,1", "P1_0,bad,1,2", "P1_1,ok,0,1", header="file,label,start,end")
    data = read_dataset(folder)
    assert data.groups is not None and data.groups.tolist() == ["P1_0.csv", "P1_0.csv", "P1_1.csv"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("P1_0.csv,ok,P1,3,2", "row 2: start must lie before end; got 3 and 2"),
        ("P1_0.csv,ok,P1,90,95", "row 2: the recording must have rows from 90 to 95"),
        ("P1_0.csv,ok,P1,soon,95", "row 2: start must be written as the recording's times"),
        ("P9_0.csv,ok,P1,0,1", "row 2: P9_0.csv: no such recording"),
        ("P1_0.csv,,P1,0,1", "row 2: label must not be empty"),
        ("P1_1.csv,ok,P2,0,1", "row 4: P1_1.csv must have one group"),
        ("P1_1.csv,bad,P1,3,5", "row 4: it must not overlap labels.csv, row 2"),
    ],
)
def test_a_bad_row_of_the_table_is_refused(folder: Path, row: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        intervals(folder, row, "P1_0.csv,ok,P1,0,1")
    assert words in str(caught.value)


def write_wav(path: Path, samples: np.ndarray, rate: int = 1000, width: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = np.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i4")
    content = scaled.T.reshape(-1).view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_wav_files_have_their_rate_and_scale(tmp_path: Path, width: int) -> None:
    samples = np.linspace(-1, 1, 600).reshape(2, 300)
    for kind in ("a", "b"):
        write_wav(tmp_path / kind / "1.wav", samples if kind == "a" else -samples, width=width)
    data = read_dataset(tmp_path)
    assert data.labels is not None and data.labels.tolist() == ["a", "b"]
    assert data.grid.period == pytest.approx(0.001) and data.units == (None, None)
    assert np.allclose(data.series[0], samples, atol=1e-4)


def test_a_wav_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a" / "1.wav", np.zeros((1, 300)))
    content = (tmp_path / "a" / "1.wav").read_bytes()
    (tmp_path / "a" / "1.wav").write_bytes(content[:-100])
    assert "must hold 300 samples" in refusal(tmp_path)
    (tmp_path / "a" / "1.wav").write_bytes(b"RIFFnothing")
    assert "must be a WAV file" in refusal(tmp_path)


def _npz(path: Path, x: np.ndarray) -> None:
    np.savez(path, X=x[None], channels=np.array(["u", "v"]))


def _mat(path: Path, x: np.ndarray) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(path, {"u": x[0], "v": x[1], "fs": 100.0, "comment": "pump"})


def _parquet(path: Path, x: np.ndarray) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"time": 0.01 * np.arange(x.shape[1]), "u": x[0], "v": x[1]}), path)


@pytest.mark.parametrize(("ending", "write"), [("npz", _npz), ("mat", _mat), ("parquet", _parquet)])
def test_other_forms_are_read_from_a_folder(
    tmp_path: Path, ending: str, write: Callable[[Path, np.ndarray], None]
) -> None:
    rng = np.random.default_rng(0)
    recordings = [rng.standard_normal((2, 40)) for _ in range(4)]
    for i, x in enumerate(recordings):
        path = tmp_path / ("a", "b")[i % 2] / f"P{i}.{ending}"
        path.parent.mkdir(exist_ok=True)
        write(path, x)
    data = read_dataset(tmp_path)
    assert data.channels == ("u", "v") and data.labels is not None and data.labels.tolist() == list("aabb")
    assert np.allclose(data.series[1], recordings[2], atol=1e-6)
    if ending != "npz":
        assert data.grid.period == pytest.approx(0.01)


def test_a_mat_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "1.mat"
    for values, words in (
        ({"a": np.arange(9.0), "b": np.arange(8.0)}, "must be of one length; got a 9, b 8"),
        ({"a": "text"}, "must hold a vector or a matrix of numbers; it holds a"),
    ):
        scipy_io.savemat(path, values)
        assert words in refusal(tmp_path)
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + b" " * 200)
    assert "Save it with -v7" in refusal(tmp_path)
    path.write_bytes(b"nothing of the kind" * 20)
    assert "damaged or something else" in refusal(tmp_path)


def test_what_is_no_recording_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "read me.txt").write_text("notes")
    (folder / ".DS_Store").write_text("")
    assert any(
        "1 file(s) are no recordings and are not read: read me.txt" in x for x in read_dataset(folder).notes
    )
    (folder / NORMAL / "P1_0.wav").write_bytes(b"x")
    assert "recordings of one form" in refusal(folder)
    (tmp_path / "empty").mkdir()
    assert "must hold recordings" in refusal(tmp_path / "empty")


def test_copies_of_one_class_are_noticed(folder: Path) -> None:
    shutil.copy(folder / NORMAL / "P1_0.csv", folder / NORMAL / "P3_7.csv")
    notes = " ".join(read_dataset(folder).notes)
    assert "1 recording(s) are copies of another one" in notes and "P3_7.csv" in notes


def test_an_empty_file_and_a_loose_file_are_named(folder: Path) -> None:
    shutil.copy(folder / NORMAL / "P1_0.csv", folder / "P1_0.csv")
    assert "P1_0.csv must lie in the folder of its class" in refusal(folder)
    (folder / "P1_0.csv").unlink()
    (folder / NORMAL / "P1_0.csv").write_bytes(b"")
    assert "P1_0.csv must hold data; it is empty. Record it again or remove it." in refusal(folder)


def test_a_spec_is_written_and_read(tmp_path: Path) -> None:
    values = {
        "label_from": "{label}/{group}_*",
        "channels": ["振動(m/s2)", "a, b"],
        "window": "100",
        "period": 0.01,
    }
    path = tmp_path / "data.yaml"
    path.write_text(spec_text({**values, "encoding": None}), encoding="utf-8")
    assert read_spec(path) == values
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == values
    path.write_text("# by hand\nencoding: cp932\nwindow: 100\nlabel_from: '{label}'\n", encoding="utf-8")
    with pytest.raises(InputError, match="row 4: label_from must be JSON"):
        read_spec(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("windov: 1s", "row 1: unknown key windov. Did you mean window"),
        ("channels:\n  - a", "row 1 must be `key: value`"),
        ("channels: 3", "channels must be a list of names"),
        ("period: 0", "period must be seconds"),
        ("window: 1s\nwindow: 2s", "row 2: window stands twice"),
    ],
)
def test_a_bad_spec_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_spec(tmp_path / "data.yaml")


def test_what_is_given_goes_before_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text('window: 1s\nencoding: cp932\nchannels: ["a, b", "c"]\nperiod: 0.01\n', encoding="utf-8")
    options = TableOptions(spec=path, window="200").read_options("classification")
    assert (options.window, options.encoding, options.period) == (200, "cp932", 0.01)
    assert options.channels == ("a, b", "c")
    assert SpecOptions(spec=path).read_options("regression").window_time is not None
    assert SpecOptions().read_options("classification") == ReadOptions()


def test_results_beside_the_recordings_are_not_read(folder: Path) -> None:
    for name in ("pump.edgesparse", "run"):
        (folder / name).mkdir()
        (folder / name / "golden.npz").write_bytes(b"x")
    (folder / "run" / "run.json").write_text("{}")
    assert len(read_dataset(folder)) == 12


def test_a_label_column_goes_before_the_sub_folder(folder: Path) -> None:
    for i, path in enumerate(sorted(folder.glob("*/*.csv"))):
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [f"{lines[0]},class", *(f"{line},{'xy'[i % 2]}" for line in lines[1:])]
        path.write_text("\n".join([*rows, ""]), encoding="utf-8")
    data = read_dataset(folder)
    assert data.labels is not None and data.labels.tolist() == list("xy") * 6
    assert "class = label (by its name)" in map(str, data.roles)
    named = read_dataset(folder, ReadOptions(label_from="{label}/{group}_*"))
    assert named.labels is not None and named.labels.tolist() == [NORMAL] * 6 + [FAULT] * 6
    assert named.channels == CHANNELS and "column class is left out" in " ".join(named.notes)


def write_each(folder: Path, text: str) -> Path:
    """The same file in two classes, but for its last row."""
    for i, kind in enumerate("ab"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "1.csv").write_text(f"{text}\n{text.splitlines()[-1]}{i}\n", encoding="utf-8")
    return folder


def test_dates_with_points_are_no_numbers(tmp_path: Path) -> None:
    rows = "\n".join(f"{day:02d}.01.2024;{day},5" for day in range(1, 20))
    data = read_dataset(write_each(tmp_path / "x", f"Tag der Messung;Wert\n{rows}"))
    assert data.channels == ("Wert",) and data.grid.period == 86400.0
    assert data.series[0][0, :2].tolist() == [1.5, 2.5]


def test_a_time_unit_that_is_stated_holds_in_tables(tmp_path: Path) -> None:
    rows = "\n".join(f"{20 * i},{i % 7}" for i in range(40))
    path = tmp_path / "x.csv"
    path.write_text(f"time,v\n{rows}\n")
    assert read_dataset(path, ReadOptions(time_unit="ms")).grid.period == pytest.approx(0.02)
    assert read_dataset(path).grid.period == pytest.approx(20)


def test_data_to_predict_need_no_label_column(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time,v\n0,1\n1,2\n2,3\n")
    options = ReadOptions(label_column="state", needs_labels=False)
    assert read_dataset(path, options).channels == ("v",)
    assert "must have a column state" in refusal(path, label_column="state")


def test_training_without_classes_ends_in_one_line(folder: Path, tmp_path: Path) -> None:
    done = edgesparse("train", folder / NORMAL, "-o", tmp_path / "run")
    check_one_line(done, 2, "must name a class for each recording. Put those of a class into one sub-folder")
    assert not (tmp_path / "run").exists()
