"""Options of every verb that reads labeled data."""

from __future__ import annotations

from typing import Annotated

import typer

from edgesparse_runtime.data.readers import ReadOptions

LabelColumn = Annotated[str | None, typer.Option(help="Column with the label.", rich_help_panel="Tables")]
SeriesColumn = Annotated[
    str | None, typer.Option(help="Column that tells series apart.", rich_help_panel="Tables")
]
GroupColumn = Annotated[
    str | None, typer.Option(help="Column with machine, run or person.", rich_help_panel="Tables")
]
Channels = Annotated[
    str | None, typer.Option(help="Channel columns, separated by commas.", rich_help_panel="Tables")
]
Window = Annotated[
    int | None, typer.Option(help="Cut recordings into windows of so many steps.", rich_help_panel="Tables")
]
Stride = Annotated[
    int | None, typer.Option(help="Steps between windows [default: window].", rich_help_panel="Tables")
]


def read_options(
    task: str,
    label_column: str | None,
    series_column: str | None,
    group_column: str | None,
    channels: str | None,
    window: int | None,
    stride: int | None,
) -> ReadOptions:
    """The options as the readers take them."""
    return ReadOptions(
        task="regression" if task == "regression" else "classification",
        label_column=label_column,
        series_column=series_column,
        group_column=group_column,
        channels=tuple(name.strip() for name in channels.split(",")) if channels else None,
        window=window,
        stride=stride,
    )
