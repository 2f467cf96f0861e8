"""What a model must know of the data it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of the data it was trained on.

    Attributes:
        source: file name.
        channels: names, in order.
        classes: names, in the order of the scores; empty for regression.
        variable_length: training series had different lengths.
        shortest: steps of the shortest training series.
        longest: steps of the longest.
        series: how many there were.
        target_center: added to, and
        target_scale: multiplied with a regression model's or a forecaster's output.
        horizon: forecasting: steps to predict,
        target_channel: of this channel; and
        season: the steps after which it repeats most closely (0 = none found).
        window: steps of the windows that recordings were cut into, a forecaster's horizon included; None =
            whole series.
        stride: steps between windows.
        period: seconds between steps; None = unknown.
        zone: of the times, as `Grid.zone`.
        units: one per channel, None = unknown.
        typical: what each channel is like in the training windows (`Typical` of the input check).
        roles: what each column of a table was taken for, and why.
        notes: what a reader of the results should know of how the windows came about, a sentence each.
    """

    source: str
    channels: list[str]
    classes: list[str]
    variable_length: bool
    shortest: int
    longest: int
    series: int
    target_center: float = 0.0
    target_scale: float = 1.0
    horizon: int = 0
    target_channel: str = ""
    season: int = 0
    window: int | None = None
    stride: int | None = None
    period: float | None = None
    units: list[str | None] = field(default_factory=list)
    typical: list[dict[str, float] | None] = field(default_factory=list)
    roles: list[dict[str, Any]] = field(default_factory=list)
    zone: str | None = None
    notes: list[str] = field(default_factory=list)
