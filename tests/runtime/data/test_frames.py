"""Data frames in memory are read as tables are (docs/guides/data.md, "From Python")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

pandas = pytest.importorskip("pandas")
STEPS = 50
VALUES = np.random.default_rng(0).standard_normal((4, 2, STEPS))
LABELS = ["ok", "bad", "ok", "bad"]


def columns() -> dict[str, Any]:
    """Four series in long form, the times in nanoseconds."""
    times = np.datetime64("2026-11-02T08:00:00", "ns") + np.arange(STEPS) * np.timedelta64(10, "ms")
    return {
        "時刻": np.tile(times, 4),
        "振動 [g]": np.concatenate(VALUES[:, 0]),
        "current (A)": np.concatenate(VALUES[:, 1]),
        "machine": np.repeat(["P1", "P2", "P1", "P2"], STEPS),
        "series": np.repeat(np.arange(4), STEPS),
        "label": np.repeat(LABELS, STEPS),
    }


def check(data: SeriesSet) -> None:
    assert data.labels is not None and data.labels.tolist() == LABELS
    assert data.groups is not None and data.groups.tolist() == ["P1", "P2", "P1", "P2"]
    assert data.channels == ("振動 [g]", "current (A)") and data.units == ("g", "A")
    assert data.grid.period == pytest.approx(0.01)
    assert all(np.allclose(x, y, atol=1e-6) for x, y in zip(data.series, VALUES, strict=True))


def _with_index(frame: Any) -> Any:
    return frame.set_index(["series", "時刻"])


def _in_tokyo(frame: Any) -> Any:
    return frame.assign(時刻=frame["時刻"].dt.tz_localize("Asia/Tokyo"))


def _nullable(frame: Any) -> Any:
    return frame.convert_dtypes()


@pytest.mark.parametrize("change", [lambda frame: frame, _with_index, _in_tokyo, _nullable])
def test_pandas_frames(change: Callable[[Any], Any]) -> None:
    data = read_dataset(change(pandas.DataFrame(columns())))
    check(data)
    assert data.grid.zone == ("+00:00" if change is _in_tokyo else "local")


def test_missing_values_of_pandas_are_missing() -> None:
    frame = pandas.DataFrame(columns()).convert_dtypes()
    frame.loc[3, "current (A)"] = pandas.NA
    data = read_dataset(frame)
    assert np.isnan(data.series[0][1, 3]) and np.isnan(data.series[0]).sum() == 1
    frame.loc[4, "時刻"] = pandas.NaT
    with pytest.raises(InputError, match="data frame, row 5: column 時刻 must be a time"):
        read_dataset(frame)


def test_polars_frames() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(columns())
    check(read_dataset(frame))
    check(read_dataset(frame.with_columns(polars.col("時刻").dt.replace_time_zone("UTC"))))
    with pytest.raises(InputError, match=r"polars's LazyFrame. Call .collect\(\) first"):
        read_dataset(frame.lazy())


def test_xarrays() -> None:
    xarray = pytest.importorskip("xarray")
    times = columns()["時刻"][:STEPS]
    array = xarray.DataArray(
        VALUES,
        dims=("series", "channel", "time"),
        coords={"series": list("abcd"), "channel": ["u", "v"], "time": times},
    )
    array = array.assign_coords(label=("series", LABELS), machine=("series", ["P1", "P2", "P1", "P2"]))
    data = read_dataset(array)
    assert data.channels == ("u", "v") and data.labels is not None and data.labels.tolist() == LABELS
    assert all(np.allclose(x, y, atol=1e-6) for x, y in zip(data.series, VALUES, strict=True))
    assert (
        data.grid.period == pytest.approx(0.01) and data.ids is not None and data.ids.tolist() == list("abcd")
    )


def test_hugging_face_datasets_have_a_series_per_row() -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "u": VALUES[:, 0].tolist(),
        "v": VALUES[:, 1].tolist(),
        "machine": ["P1", "P2", "P1", "P2"],
        "label": [1, 0, 1, 0],
    }
    given = datasets.Dataset.from_dict(rows).cast_column("label", datasets.ClassLabel(names=["bad", "ok"]))
    data = read_dataset(given)
    assert data.channels == ("u", "v") and data.labels is not None and data.labels.tolist() == LABELS
    assert data.groups is not None and data.groups.tolist() == ["P1", "P2", "P1", "P2"]
    assert all(np.allclose(x, y, atol=1e-6) for x, y in zip(data.series, VALUES, strict=True))
    with pytest.raises(InputError, match=r"Name one split: data\['train'\]"):
        read_dataset(datasets.DatasetDict(train=given))


def test_cells_that_are_arrays_are_series() -> None:
    frame = pandas.DataFrame({"x": list(VALUES), "label": LABELS})
    data = read_dataset(frame, ReadOptions(window=25))
    assert data.channels == ("x_1", "x_2") and len(data) == 8
    assert data.groups is not None and len(set(data.groups)) == 4
    frame["y"] = [np.zeros(STEPS), np.zeros(STEPS), np.zeros(3), np.zeros(STEPS)]
    with pytest.raises(
        InputError, match=r"data frame, row 3: y must be \[1, 50\] as its other channels; got \[1, 3\]"
    ):
        read_dataset(frame)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: pandas.Series([1.0, 2.0]), "got pandas's Series. Give a frame"),
        (lambda: pandas.DataFrame({"a": []}), "must hold rows"),
        (lambda: pandas.DataFrame([[1, 2]], columns=["a", "a"]), "a stands twice"),
        (lambda: pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", 2]}), "row 1, column b must be a number"),
        (lambda: pandas.DataFrame({"a": [1.0, np.inf]}), "must be finite"),
    ],
)
def test_what_is_no_table_is_refused(given: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_dataset(given())
