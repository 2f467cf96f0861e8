"""A length of windows as a person states it: steps, or a time that the sampling rate turns into steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgesparse_runtime.errors import InputError

_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h)?", re.ASCII)


@dataclass(frozen=True)
class Span:
    """One of the two is set.

    Attributes:
        steps: of the grid.
        seconds: of time.
        text: as it was stated.
    """

    steps: int | None
    seconds: float | None
    text: str

    @classmethod
    def parse(cls, text: str, option: str) -> Span:
        """Read "100", "1s", "500ms", "2.5min" or "1h".

        Args:
            option: for messages.

        Raises:
            InputError: not of that form, or not above 0.
        """
        match = _FORM.fullmatch(text.strip())
        number = float(match[1]) if match else 0.0
        if match is None or number <= 0 or (match[2] is None and not number.is_integer()):
            raise InputError(
                f"`{option}` must be a number of steps, or a time such as 1s or 500ms; got {text}."
            )
        if match[2] is None:
            return cls(int(number), None, text)
        return cls(None, number * _SECONDS[match[2]], text)

    def to_steps(self, period: float | None, what: str, option: str) -> int:
        """Steps of a grid of `period` seconds.

        Args:
            what: the data or model, for messages.

        Raises:
            InputError: the period is unknown, or the time is shorter than a step.
        """
        if self.steps is not None:
            return self.steps
        assert self.seconds is not None
        if period is None:
            raise InputError(
                f"`{option}` {self.text} needs a sampling rate, which {what} does not have. "
                "State the number of steps."
            )
        steps = round(self.seconds / period)
        if steps < 1:
            raise InputError(f"`{option}` {self.text} is shorter than a step of {what}, {period:g} s.")
        return steps
