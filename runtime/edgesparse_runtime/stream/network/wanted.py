"""`Wanted`: what a source needs to know of the model that its samples are for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """Channels, and how often they are sampled.

    Attributes:
        period: seconds between steps; None = the model states none.
    """

    channels: tuple[str, ...] = ()
    period: float | None = None


NOTHING = Wanted()
