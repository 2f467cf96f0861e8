"""Which column is what, by name and by what stands in it, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgesparse_runtime.data.column_names import with_unit
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


def read(folder: Path, text: str, **options: object) -> SeriesSet:
    (folder / "x.csv").write_text(text, encoding="utf-8")
    return read_dataset(folder / "x.csv", ReadOptions(**options))  # type: ignore[arg-type]


def table(header: str, *columns: list[object]) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]) + "\n"


def roles(data: SeriesSet) -> dict[str, str]:
    return {role.column: role.role for role in data.roles}


COUNT = list(range(12))
WAVE = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]


def test_a_temperature_is_no_time(tmp_path: Path) -> None:
    """Case column-names: `T` was taken for the time, and rows were sorted by temperature."""
    data = read(tmp_path, table("sec,T,RH", COUNT, WAVE, COUNT))
    assert roles(data) == {"sec": "time", "T": "channel", "RH": "channel"}
    assert data.series[0][0].tolist() == WAVE
    assert data.grid.period == 1.0


def test_a_motor_flag_is_no_group(tmp_path: Path) -> None:
    flag = [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]
    data = read(tmp_path, table("time,run,flow", COUNT, flag, WAVE))
    assert (len(data), data.channels, data.groups) == (1, ("run", "flow"), None)
    # The same within each series, and as text.
    series = [0] * 6 + [1] * 6
    assert read(tmp_path, table("series,run,flow", series, flag, WAVE)).channels == ("run", "flow")
    states = ["true" if x else "false" for x in flag]
    data = read(tmp_path, table("time,run,flow", COUNT, states, WAVE))
    assert data.series[0][0].tolist() == flag


def test_a_group_that_stays_is_a_group(tmp_path: Path) -> None:
    names = ["a"] * 6 + ["b"] * 6
    data = read(tmp_path, table("time,run,flow", COUNT, names, WAVE))
    assert data.groups is not None
    assert data.groups.tolist() == ["a", "b"]
    numbers = [1] * 4 + [2] * 4 + [3] * 4
    assert len(read(tmp_path, table("time,machine,flow", COUNT, numbers, WAVE))) == 3
    # Two machines that report in turn.
    both = read(tmp_path, table("time,machine,flow", [i // 2 for i in COUNT], ["p", "q"] * 6, WAVE))
    assert [x[0].tolist() for x in both.series] == [WAVE[0::2], WAVE[1::2]]


def test_a_controller_step_is_no_time_where_there_is_one(tmp_path: Path) -> None:
    data = read(tmp_path, table("ms,step,v", [10 * i for i in COUNT], WAVE, COUNT))
    assert roles(data) == {"ms": "time", "step": "channel", "v": "channel"}
    assert data.grid.period == pytest.approx(0.01)
    assert roles(read(tmp_path, table("step,v", COUNT, WAVE)))["step"] == "time"
    assert roles(read(tmp_path, table("step,v", WAVE, COUNT)))["step"] == "channel"


def test_the_axes_of_a_sensor_are_channels(tmp_path: Path) -> None:
    text = table("time,x,y,z", COUNT, WAVE, WAVE, COUNT)
    for options in ({}, {"task": "forecasting"}, {"needs_labels": False}, {"window": 4}):
        data = read(tmp_path, text, **options)
        assert (data.channels, data.labels) == (("x", "y", "z"), None)
    assert read(tmp_path, text, label_column="y", window=4).channels == ("x", "z")


def test_a_forecaster_keeps_its_target(tmp_path: Path) -> None:
    data = read(tmp_path, table("date,y", [f"2024-01-{i + 1:02d}" for i in COUNT], WAVE), task="forecasting")
    assert (data.channels, data.labels, data.grid.period) == (("y",), None, 86400.0)


def test_names_are_no_signal_where_labels_are_not_needed(tmp_path: Path) -> None:
    text = table("time,v,label", COUNT, WAVE, ["ok"] * 6 + ["worn"] * 6)
    data = read(tmp_path, text, needs_labels=False)
    assert (data.channels, data.labels) == (("v",), None)
    assert read(tmp_path, text, task="forecasting").channels == ("v",)


def test_channels_of_the_model_come_first(tmp_path: Path) -> None:
    """A model that was trained on columns `t` and `step` reads them as channels."""
    text = table("time,t,step,extra", COUNT, COUNT, COUNT, WAVE)
    data = read(tmp_path, text, model_channels=("step", "t"), needs_labels=False)
    assert data.channels == ("step", "t")
    assert roles(data) == {"time": "time", "t": "channel", "step": "channel", "extra": "left out"}


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "row", "id", "#"])
@pytest.mark.parametrize("first", [0, 1, 100])
def test_row_numbers_are_no_channel(tmp_path: Path, name: str, first: int) -> None:
    data = read(tmp_path, table(f"{name},v", [i + first for i in COUNT], WAVE))
    assert (len(data), data.channels) == (1, ("v",))
    assert data.series[0][0].tolist() == WAVE


def test_a_signal_of_that_name_stays(tmp_path: Path) -> None:
    assert read(tmp_path, table("index,v", WAVE, COUNT)).channels == ("index", "v")


def test_date_and_time_of_day_are_one_time(tmp_path: Path) -> None:
    days = ["30.01.2024"] * 6 + ["31.01.2024"] * 6
    hours = [f"23:59:{54 + i}" for i in range(6)] + [f"00:00:0{i}" for i in range(6)]
    data = read(tmp_path, table("Date,Time,v", days, hours, WAVE))
    assert (len(data), data.channels, data.grid.period) == (1, ("v",), 1.0)
    assert not data.notes


@pytest.mark.parametrize(
    "name", ["時刻", "Zeitstempel", "Timestamp", "Time (ms)", "time_ms", "DateTime", "# time"]
)
def test_times_by_other_names(tmp_path: Path, name: str) -> None:
    data = read(tmp_path, table(f"{name},v", [20 * i for i in COUNT], WAVE))
    assert roles(data)[name.removeprefix("# ")] == "time"


def test_units_stand_in_names(tmp_path: Path) -> None:
    data = read(tmp_path, table("time,振動(m/s2),current [A],v", COUNT, WAVE, WAVE, WAVE))
    assert data.units == ("m/s2", "A", None)
    assert data.channels == ("振動(m/s2)", "current [A]", "v")
    told = [with_unit(*pair) for pair in zip([*data.channels, "flow"], [*data.units, "l/s"], strict=True)]
    assert told == ["振動(m/s2)", "current [A]", "v", "flow in l/s"]


def test_both_ways_to_write_an_umlaut_are_one_column_and_one_class(tmp_path: Path) -> None:
    labels = ["lauft\u0308"] * 6 + ["la\u0308uft"] * 3 + ["l\u00e4uft"] * 3
    data = read(tmp_path, table("series,la\u0308nge,label", [0] * 6 + [1] * 3 + [2] * 3, WAVE, labels))
    assert data.channels == ("l\u00e4nge",)
    assert data.labels is not None
    assert len(set(data.labels.tolist())) == 2


def test_a_column_of_words_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"column state must be a number; got 'ok'\. Give --label-column if"):
        read(tmp_path, table("time,v,state", COUNT, WAVE, ["ok"] * 12))


def test_every_column_has_a_role_and_a_reason(tmp_path: Path) -> None:
    data = read(tmp_path, table("series,time,v,label", [0] * 12, COUNT, WAVE, ["a"] * 12))
    assert [str(role) for role in data.roles] == [
        "series = series (by its name)",
        "time = time (by its name)",
        "v = channel (no other role)",
        "label = label (by its name)",
    ]


def test_a_column_of_dates_is_the_time_whatever_its_name(tmp_path: Path) -> None:
    days = [f"2024-01-{i + 1:02d} 06:00" for i in COUNT]
    data = read(tmp_path, table("v,Stempel", WAVE, days))
    assert (data.channels, data.grid.period) == (("v",), 86400.0)
    assert str(data.roles[1]) == "Stempel = time (it holds dates)"


def test_blanks_around_a_name_are_no_other_machine(tmp_path: Path) -> None:
    data = read(tmp_path, table("time,machine,v", [*COUNT[:6]] * 2, ["p", " p "] * 3 + ["q", "q "] * 3, WAVE))
    assert data.groups is not None
    assert data.groups.tolist() == ["p", "q"]
