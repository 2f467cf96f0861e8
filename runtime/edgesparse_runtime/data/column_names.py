"""Names that columns usually have, and what they hold besides the name."""

from __future__ import annotations

import re

# Names that mean a role in streams and files; files look at what stands in the column too.
USUAL_NAMES = {
    "time": ("time", "timestamp", "datetime", "date_time", "date", "t", "step"),
    "series": ("series", "series_id", "window", "window_id", "sample", "id"),
    "label": ("label", "class", "target", "y"),
    "group": ("group", "machine", "run", "device", "person", "subject"),
}
# Names of a time in a few languages.
TIMES = (
    *("time", "timestamp", "datetime", "date_time", "date/time", "time_stamp", "ts", "date"),
    *("時刻", "日時", "時間", "タイムスタンプ", "时间", "시간"),
    *("zeit", "zeitstempel", "uhrzeit", "heure", "hora"),
)
# Also names of signals and counters: time only where the column rises evenly.
MAYBE_TIMES = (
    *("t", "step", "s", "sec", "secs", "seconds", "ms", "millis", "us", "ns"),
    *("index", "tick", "ticks", "__index_level_0__"),
)
DATES = ("date", "datum", "日付", "day")
# What other programs number rows by.
INDEXES = (
    *("unnamed: 0", "index", "row", "row_number", "rownumber", "rownum"),
    *("no", "no.", "nr", "#", "id", "idx", "__index_level_0__"),
)
_UNIT = re.compile(r"^(?P<name>.+?)\s*[\[(（](?P<unit>[^\])）]{1,12})[\])）]$")


def plain_name(name: str) -> str:
    """A column's name in lower case, without its unit."""
    found = _UNIT.match(name.strip())
    return (found["name"] if found else name).strip().lower()


def unit_of(name: str) -> str | None:
    """The unit in a column's name: `current [A]`, `vibration (m/s2)`."""
    found = _UNIT.match(name.strip())
    return found["unit"].strip() if found else None
