"""`--false-alarms 1/90d`: the rate of false alarms that a user states."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgesparse_runtime.errors import InputError

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM = re.compile(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*(s|min|h|d|w)", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", re.ASCII)
DEFAULT = "1/90d"


@dataclass(frozen=True)
class Rate:
    """At most one false alarm in so much time, or so many windows; one of the two is set.

    Attributes:
        text: as it was stated.
    """

    text: str
    seconds: float | None = None
    windows: float | None = None

    @classmethod
    def parse(cls, text: str, option: str = "--false-alarms") -> Rate:
        """Read "1/90d", "2/12h" or "1/100000w" (w = windows).

        Raises:
            InputError: not of that form, or not above 0.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None or int(match[1]) == 0 or float(match[2] or 1) == 0:
            raise InputError(
                f"`{option}` must be a count per time or per windows (w), such as 1/90d or 1/100000w; "
                f"got {text}."
            )
        amount = float(match[2] or 1) / int(match[1])
        if match[3] == "w":
            return cls(text, windows=amount)
        return cls(text, seconds=amount * _SECONDS[match[3]])

    def in_windows(
        self,
        seconds_per_window: float | None,
        source: str = "reference",
        option: str = "--false-alarms",
    ) -> float:
        """Windows per false alarm.

        Args:
            source: what should have the time of a window, for messages.

        Raises:
            InputError: the rate is one per time, and how long a window takes is not known.
        """
        if self.windows is not None:
            return self.windows
        assert self.seconds is not None
        if seconds_per_window is None:
            raise InputError(
                f"`{option}` {self.text} needs the time from one window to the next, which the "
                f"{source} must state and does not. State it in windows, such as 1/100000w."
            )
        return self.seconds / seconds_per_window


def parse_duration(text: str, option: str) -> float:
    """Seconds of "90s", "15min", "12h" or "7d".

    Raises:
        InputError: not of that form, or not above 0.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(f"`{option}` must be a time such as 12h or 7d; got {text}.")
    return float(match[1]) * _SECONDS[match[2]]
