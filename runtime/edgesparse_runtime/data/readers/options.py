"""How a data file is to be understood where its column names do not say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesparse_runtime.errors import InputError


@dataclass(frozen=True)
class ReadOptions:
    """Choices of a reader.

    Attributes:
        task: "classification" reads labels as names, "regression" as numbers.
        label_column: of a table; None = one named label, class, target or y.
        series_column: one value a series; None = one named series, window, sample or id.
        group_column: the machine, run or person; None = one named group, machine, run, device or person.
        time_column: None = one named time, timestamp, t or step.
        channels: columns to use, in this order; None = all that are left.
        window: steps a window that series, or groups without a series column, are cut into; None = whole.
        stride: steps between windows; None = `window`.
    """

    task: Literal["classification", "regression"] = "classification"
    label_column: str | None = None
    series_column: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    channels: tuple[str, ...] | None = None
    window: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be at least 1; got {value}.")
