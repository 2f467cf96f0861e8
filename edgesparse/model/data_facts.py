"""What a model must know of the data it was trained on."""

from __future__ import annotations

from dataclasses import dataclass


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
