"""Names that columns usually have, and what they hold besides the name."""

from __future__ import annotations

import re
import unicodedata

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
# A byte order mark, and what is left of it where a program read UTF-8 as Latin-1.
_MARKS = ("\ufeff", "\u00ef\u00bb\u00bf")
# Characters without a width that programs leave around names.
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"
_UNIT = re.compile(r"[\[(（](?P<unit>[^\])）]{1,12})[\])）]$")
_LONGEST_UNIT = 14


def without_marks(text: str) -> str:
    """`text` without byte order marks before it, however many programs have added one."""
    while text.startswith(_MARKS):
        text = text[1:] if text[0] == _MARKS[0] else text[len(_MARKS[1]) :]
    return text


def clean_name(name: str) -> str:
    """A column's name as people see it: no blanks, marks or invisible characters around it, NFC."""
    text = without_marks(name.strip())
    stripped = text.strip(_INVISIBLE).strip()
    return unicodedata.normalize("NFC", stripped)


def plain_name(name: str) -> str:
    """A column's name in lower case, without its unit."""
    return _split_unit(name)[0].strip().lower()


def unit_of(name: str) -> str | None:
    """The unit in a column's name: `current [A]`, `vibration (m/s2)`."""
    unit = _split_unit(name)[1]
    return None if unit is None else unit.strip()


def with_unit(name: str, unit: str | None) -> str:
    """A channel for people: `current in A`; a name that has its unit already stays as it is."""
    return name if not unit or unit_of(name) == unit else f"{name} in {unit}"


def _split_unit(name: str) -> tuple[str, str | None]:
    """A name and the unit in the brackets at its end. In linear time: only the end is searched."""
    text = name.strip()
    # No name is only a unit.
    found = _UNIT.search(text, max(1, len(text) - _LONGEST_UNIT))
    return (text, None) if found is None else (text[: found.start()], found["unit"])
