"""How a data file is to be understood where its column names do not say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesparse_runtime.data.readers.span import Span
from edgesparse_runtime.errors import InputError

Task = Literal["classification", "regression", "forecasting"]


def known_task(task: str) -> Task:
    """A task's name as readers know it; other models' tasks read labels as names."""
    if task == "regression":
        return "regression"
    return "forecasting" if task == "forecasting" else "classification"


@dataclass(frozen=True)
class ReadOptions:
    """Choices of a reader.

    Attributes:
        task: "classification" reads labels as names, "regression" as numbers; "forecasting" has no labels
            besides a column that is named.
        label_column: of a table; None = one named label, class or target, or y where there is no x.
        series_column: one value per series; None = one named series, window, sample or id.
        group_column: the machine, run or person; None = one named group, machine, run, device or person.
        time_column: None = one named time, timestamp, datetime, date and the like.
        channels: columns to use, in this order; None = all that are left.
        window: steps of the windows that series, or groups without a series column, are cut into; None =
            whole.
        stride: steps between windows; None = `window`.
        needs_labels: False = labels are not looked for: predictions, unlabeled windows.
        model_channels: channels of the model that will read the data; found by name before any other role is.
        period: seconds between steps that the model was trained on; data of another rate are refused.
        zone: of the times that the model was trained on, as `Grid.zone`; a note names data of the other kind.
        time_unit: of times that are numbers: s, ms, us or ns; None = by the column's name, else seconds.
        window_time, stride_time: the same two as times, where the data's period turns them into steps.
        keeps_short: series shorter than `window` stay, whole; False = they have no window.
        encoding: of text files that are not UTF-8.
        label_from: of a folder: how names of files and folders hold label and group, `NamePattern`.
        last_only: only the last window of each series, which ends where the series ends.
    """

    task: Task = "classification"
    label_column: str | None = None
    series_column: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    channels: tuple[str, ...] | None = None
    window: int | None = None
    stride: int | None = None
    needs_labels: bool = True
    model_channels: tuple[str, ...] = ()
    period: float | None = None
    zone: str | None = None
    time_unit: str | None = None
    window_time: Span | None = None
    stride_time: Span | None = None
    keeps_short: bool = False
    last_only: bool = False
    encoding: str | None = None
    label_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"`{name}` must be at least 1; got {value}.")
        if self.encoding is not None:
            _check_encoding(self.encoding)


def _check_encoding(name: str) -> None:
    try:
        # Nothing would be looked up for no bytes; encodings of bytes, such as hex, are refused here too.
        b"aaaa".decode(name)
        is_text = True
    except UnicodeDecodeError:
        is_text = True
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise InputError(f"`encoding` must be a text encoding, such as cp932 or cp1252; got {name}.")
