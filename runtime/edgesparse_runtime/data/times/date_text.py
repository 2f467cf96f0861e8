"""Text of a calendar date or a time of day to its parts: the forms that loggers, Java, Excel and databases
write. What stands for day and what for month is settled over the whole column, in `clock.py`."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september", "sept"),
    *("october", "november", "december"),
)
# Hours east of Greenwich. CST and IST are left out: they name several zones.
_ZONES = {
    "Z": 0.0,
    "UTC": 0.0,
    "GMT": 0.0,
    "WET": 0.0,
    "WEST": 1.0,
    "CET": 1.0,
    "CEST": 2.0,
    "EET": 2.0,
    "EEST": 3.0,
    "JST": 9.0,
    "EST": -5.0,
    "EDT": -4.0,
    "MST": -7.0,
    "MDT": -6.0,
    "PST": -8.0,
    "PDT": -7.0,
}
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_TIME = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,:](?P<fraction>[0-9]{1,12}))?)?"
    r"(?:\s*(?P<half>[ap])\.?\s?m\.?)?"
)
_COMPACT_TIME = (
    r"(?P<chour>[0-9]{2})(?P<cminute>[0-9]{2})(?P<csecond>[0-9]{2})(?:[.,](?P<cfraction>[0-9]{1,12}))?"
)
_ZONE = (
    r"(?:\s*(?P<zone>Z|[A-Z]{3,4}(?![A-Z+-])|(?:UTC|GMT)?[+-][0-9]{1,2}(?::?[0-9]{2}){0,2}))?"
    r"(?:\[[\w/+-]+\]|\s*\([\w ]+\))?"
)
# Between date and time; digits may follow digits.
_BETWEEN = r"(?:\s*T\s*|\s+|,\s*|_|-(?=[0-9]{6})|(?<=[0-9]{8})(?=[0-9]{6}))"
_DATES = {
    "year": r"(?P<y>[0-9]{4})(?P<s>[-/.])(?P<m>[0-9]{1,2})(?P=s)(?P<d>[0-9]{1,2})",
    "compact": r"(?P<y>(?:19|20)[0-9]{2})(?P<m>[0-9]{2})(?P<d>[0-9]{2})",
    "parts": r"(?P<a>[0-9]{1,2})(?P<s>[-/.])(?P<b>[0-9]{1,2})(?P=s)(?P<c>[0-9]{4}|[0-9]{2})",
    "named day": r"(?P<d>[0-9]{1,2})[-\s](?P<n>[A-Za-z]{3,9})\.?[-,\s]\s?(?P<y>[0-9]{4}|[0-9]{2})",
    "named month": r"(?P<n>[A-Za-z]{3,9})\.?\s+(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?,?\s+(?P<y>[0-9]{4})",
}
_FLAGS = re.ASCII | re.IGNORECASE
_PATTERNS = {
    name: re.compile(f"{_WEEKDAY}{date}(?:{_BETWEEN}(?:{_TIME}|{_COMPACT_TIME}){_ZONE})?", _FLAGS)
    for name, date in _DATES.items()
}
# Java's Date.toString and C's ctime: Tue Jan 30 13:00:00 CET 2024.
_PATTERNS["ctime"] = re.compile(
    rf"{_WEEKDAY}(?P<n>[A-Za-z]{{3}})\s+(?P<d>[0-9]{{1,2}})\s+{_TIME}{_ZONE}\s+(?P<y>[0-9]{{4}})", _FLAGS
)
# What most files hold, told at once.
_COMMON = re.compile(
    r"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,12}))?"
)
_TIME_OF_DAY = re.compile(_TIME + _ZONE, _FLAGS)
# 125:30:10.5 is a duration; 59:59.5 minutes and seconds.
_LONG_TIME = re.compile(
    r"(?P<hour>[0-9]{1,6}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,12}))?"
)
_MINUTES = re.compile(r"(?P<minute>[0-9]{1,3}):(?P<second>[0-9]{2})[.,](?P<fraction>[0-9]{1,12})")
# Patterns take more than linear time on what is no date.
_LONGEST = 200
_ASIAN = str.maketrans({"年": "-", "月": "-", "日": " ", "時": ":", "分": ":", "秒": " "})


class DateText(NamedTuple):
    """A calendar time as it is written.

    Attributes:
        numbers: three numbers of the date in the order in which they stand.
        order: what they are, "ymd", or "" where that is not clear ("01/02/2024").
        separator: between them.
        seconds: since midnight.
        zone: hours east of Greenwich; None where no zone is written.
    """

    numbers: tuple[int, int, int]
    order: str
    separator: str
    seconds: float
    zone: float | None


def clean(text: str) -> str:
    """Full-width digits, no-break spaces and Japanese date marks as the plain ones; no blanks around."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_ASIAN)
        text = re.sub(r":\s*$", "", text.strip())
    return text.strip()


def read_date(text: str) -> DateText | None:
    """The parts of a date, with or without a time of day; None where the text is none."""
    if len(text) > _LONGEST:
        return None
    common = _COMMON.fullmatch(text)
    if common is not None:
        year, separator, month, day, hour, minute, second, fraction = common.groups()
        if hour < "24" and minute < "60" and second < "60":
            clock = 3600.0 * int(hour) + 60 * int(minute) + int(second) + _fraction(fraction)
            return DateText((int(year), int(month), int(day)), "ymd", separator, clock, None)
    for name, pattern in _PATTERNS.items():
        found = pattern.fullmatch(text)
        if found is not None:
            return _to_date(name, found.groupdict())
    return None


def read_time_of_day(text: str) -> tuple[float, float | None] | None:
    """Seconds since midnight (or since a start, for durations) and the zone; None where it is none."""
    if len(text) > _LONGEST:
        return None
    found = _TIME_OF_DAY.fullmatch(text)
    if found is not None:
        seconds = _seconds(found.groupdict())
        return None if seconds is None else (seconds, _zone(found["zone"]) if found["zone"] else None)
    found = _LONG_TIME.fullmatch(text) or _MINUTES.fullmatch(text)
    if (
        found is None
        or (int(found["minute"]) > 59 and "hour" in found.groupdict())
        or int(found["second"]) > 60
    ):
        return None
    hours = int(found.groupdict().get("hour") or 0)
    return 3600.0 * hours + 60 * int(found["minute"]) + int(found["second"]) + _fraction(
        found["fraction"]
    ), None


def _to_date(name: str, part: dict[str, str | None]) -> DateText | None:
    seconds: float | None = 0.0
    if part.get("chour"):
        seconds = _seconds({k[1:]: v for k, v in part.items() if k.startswith("c")})
    elif part.get("hour"):
        seconds = _seconds(part)
    zone_text = part.get("zone")
    zone = _zone(zone_text) if zone_text else None
    if seconds is None or (zone_text and zone is None):
        return None
    if name == "parts":
        a, b, c = (int(part[key] or 0) for key in "abc")
        return DateText((a, b, c), "", part["s"] or "", seconds, zone)
    month = part.get("m")
    if month is None:
        word = (part["n"] or "").lower()
        if word[:3] not in _MONTHS or (len(word) > 3 and word not in _FULL):
            return None
        month = str(_MONTHS.index(word[:3]) + 1)
    year = int(part["y"] or 0)
    numbers = (full_year(year) if len(part["y"] or "") == 2 else year, int(month), int(part["d"] or 0))
    return DateText(numbers, "ymd", part.get("s") or "", seconds, zone)


def full_year(two_digits: int) -> int:
    """The year of its last two digits: 1970 to 2069."""
    return two_digits + (2000 if two_digits < 70 else 1900)


def _seconds(part: dict[str, str | None]) -> float | None:
    hour, minute = int(part["hour"] or 0), int(part["minute"] or 0)
    second, half = int(part["second"] or 0), part.get("half")
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half in "pP" else 0)
    # 24:00:00 is the midnight at a day's end, 23:59:60 a leap second.
    if minute > 59 or second > 60 or hour > 24 or (hour == 24 and (minute or second)):
        return None
    return 3600.0 * hour + 60 * minute + second + _fraction(part["fraction"])


def _fraction(digits: str | None) -> float:
    return int(digits) / 10 ** len(digits) if digits else 0.0


def _zone(text: str) -> float | None:
    name = text.upper()
    if name in _ZONES:
        return _ZONES[name]
    found = re.fullmatch(r"(?:UTC|GMT)?([+-])([0-9]{1,2}):?([0-9]{2})?:?([0-9]{2})?", name)
    if found is None:
        return None
    hours = int(found[2]) + int(found[3] or 0) / 60 + int(found[4] or 0) / 3600
    return -hours if found[1] == "-" else hours
