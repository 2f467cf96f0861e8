"""Which number of a date is the day: settled over a whole column, since "01/02/2024" alone does not tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Literal

import numpy as np

from edgesparse_runtime.data.times.date_text import DateText, full_year
from edgesparse_runtime.errors import InputError

DAY = 86400.0
Order = Literal["", "dmy", "mdy", "ymd"]
Place = Callable[[int], str]


def shown(value: object) -> str:
    """A value in a message."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 42 else text[:40] + "..."


def date_seconds(text: DateText, order: str) -> float:
    """Seconds since 1970, UTC where no zone is written."""
    return midnight(text, order) + text.seconds - 3600 * (text.zone or 0.0)


def midnight(text: DateText, order: str) -> float:
    """Seconds since 1970 at the day's start."""
    return datetime(*ordered(text, order), tzinfo=UTC).timestamp()


def ordered(text: DateText, order: str) -> tuple[int, int, int]:
    """Year, month and day."""
    if text.order:
        return text.numbers
    a, b, c = text.numbers
    year = a if order == "ymd" else c
    if year < 100:
        year = full_year(year)
    return {"dmy": (year, b, a), "mdy": (year, a, b), "ymd": (year, b, c)}[order or "dmy"]


@lru_cache(maxsize=4096)
def is_day(numbers: tuple[int, int, int]) -> bool:
    """True where the calendar has this year, month and day."""
    try:
        date(*numbers)
    except ValueError:
        return False
    return True


def infer_order(texts: Sequence[DateText], values: Sequence[object], name: str, place: Place) -> Order:
    """Day first, month first or year first: the one that fits every date, or that makes them follow.

    Args:
        texts: dates whose numbers have no order yet.
        values: as they are written, for messages.
        name: of the column.
        place: where value i stands.

    Raises:
        InputError: none fits, or several do and mean different days.
    """
    candidates: list[Order] = ["dmy", "mdy"]
    if any(text.numbers[2] < 100 for text in texts):
        candidates.append("ymd")
    distinct = list(dict.fromkeys(text.numbers for text in texts if not text.order))
    kept: list[Order] = []
    for order in candidates:
        if all(is_day(ordered(DateText(n, "", "", 0.0, None), order)) for n in distinct):
            kept.append(order)
    if not kept:
        first = _first_misfit(texts, candidates)
        raise InputError(
            f"{place(first)}: {name} must be dates of one order; got {shown(values[first])} after "
            f"{shown(values[0])}."
        )
    # With points between them, dates are written day first everywhere.
    if len(kept) > 1 and "dmy" in kept and texts[0].separator == ".":
        return "dmy"
    # One day, or days that are their own months: order and distances are the same either way.
    if len(kept) == 1 or len(distinct) == 1:
        return kept[0]
    largest = {order: _largest_step(texts, order) for order in kept}
    best = min(kept, key=lambda order: largest[order])
    others = [largest[order] for order in kept if order != best]
    # A recording that runs over midnight: read the other way, it would have holes of weeks.
    if largest[best] <= DAY / 2 and min(others) > DAY:
        return best
    raise InputError(
        f"{place(0)}: {name} must tell the day from the month; {shown(values[0])} to "
        f"{shown(values[-1])} can be both. Write dates as 2024-01-31."
    )


def _first_misfit(texts: Sequence[DateText], candidates: Sequence[Order]) -> int:
    """The first date that no order fits which fits all dates before it."""
    left = list(candidates)
    for i, text in enumerate(texts):
        left = [order for order in left if is_day(ordered(text, order))]
        if not left:
            return i
    return 0


def _largest_step(texts: Sequence[DateText], order: Order) -> float:
    times = np.sort(np.array([date_seconds(text, order) for text in texts]))
    return float(np.diff(times).max(initial=0.0))
