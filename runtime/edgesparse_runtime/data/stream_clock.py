"""`StreamClock`: times one by one, as a stream brings them, under the rule of `clock.py`."""

from __future__ import annotations

import math
from dataclasses import replace

from edgesparse_runtime.data.clock import Clock, settle
from edgesparse_runtime.data.times.day_order import DAY, Order, shown
from edgesparse_runtime.data.times.number_scale import LONGEST
from edgesparse_runtime.errors import InputError

# A backward step of at least so much is midnight and not disorder.
_MIDNIGHT = 0.5 * DAY


class StreamClock:
    """Times one by one, as a stream brings them: the first settles the form.

    Times of day run on over midnight.

    Args:
        unit: of numbers: s, ms, us or ns; None = seconds, or finer where the first is too large for them.
        order: of "01/02/2024", which one value does not tell; "" = such a time is refused.

    Attributes:
        clock: None before the first time.
    """

    def __init__(self, unit: str | None = None, order: Order = "") -> None:
        self._unit = unit
        self._order: Order = order
        self._days = 0
        self._last = -math.inf
        self.clock: Clock | None = None

    def seconds(self, value: object) -> float:
        """Seconds of one time.

        Raises:
            InputError: not a time, of another form than those before it, or out of reach.
        """
        if self.clock is None:
            self.clock = self._settle(value)
        try:
            seconds = self.clock.seconds(value)
        except ValueError:
            raise InputError(
                f"A time stamp must be of the same form as those before it; got {shown(value)}."
            ) from None
        if not self.clock.is_calendar and abs(seconds) > LONGEST:
            raise InputError(
                f"A time stamp must lie within {LONGEST:g} seconds; got {shown(value)}. "
                "`--time-unit` states what it counts: s, ms, us or ns."
            )
        if self.clock.kind == "time of day":
            seconds += self._days * DAY
            if seconds < self._last - _MIDNIGHT:
                self._days += 1
                seconds += DAY
            elif seconds > self._last + _MIDNIGHT and self._days and self._last > -math.inf:
                # A late sample of the day before.
                return seconds - DAY
            self._last = max(self._last, seconds)
        return seconds

    def _settle(self, value: object) -> Clock:
        clock = settle([value], unit=self._unit, order=self._order, name="A time stamp", place=_no_place)
        if clock.order and not self._order:
            others = ("dmy", "mdy", "ymd")
            read = set()
            for order in others:
                try:
                    read.add(replace(clock, order=order).seconds(value))  # type: ignore[arg-type]
                except ValueError:
                    continue
            if len(read) > 1:
                raise InputError(
                    f"A time stamp must tell the day from the month; {shown(value)} can be both. "
                    "Write it as 2024-01-31 13:00:00."
                )
        return clock


def _no_place(_: int) -> str:
    return "stream"
