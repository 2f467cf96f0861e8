"""Arguments and options that several verbs share, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.data.readers import ReadOptions
from edgesparse_runtime.data.readers.span import Span
from edgesparse_runtime.data.readers.spec import TEXTS, read_spec, to_options
from edgesparse_runtime.deploying.remote.connection import Target
from edgesparse_runtime.errors import InputError

BundleArgument = Annotated[Path, typer.Argument(help="Bundle.", show_default=False)]
ModelArgument = Annotated[Path, typer.Argument(help="Bundle or .onnx file.", show_default=False)]
Precision = Annotated[str, typer.Option(help="auto, float32 or int8.")]
Threads = Annotated[int | None, typer.Option(help="Threads per prediction. [all usable]")]
Batch = Annotated[int, typer.Option(help="Windows per call.")]
Length = Annotated[int | None, typer.Option(help="Steps per window. [that of the inputs]")]
Windows = Annotated[
    Path | None, typer.Option(help="Data file to take windows from. [the bundle's golden windows]")
]
Spec = Annotated[
    Path | None,
    typer.Option(help="How to read the data, written by `edgesparse data inspect --save-spec`."),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data. [chosen from its size]")]
TrustedKeys = Annotated[
    list[Path] | None,
    typer.Option(help="Public key (PEM) that must have signed the bundle; may be repeated."),
]
BundleFile = Annotated[
    Path, typer.Option("--out", "-o", help="Bundle to write, NAME.edgesparse.", show_default=False)
]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every verb accepts."""

    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False


@dataclass(frozen=True, kw_only=True)
class SpecOptions(Request):
    """How a verb reads data that it needs no options for."""

    spec: Spec = None

    def read_options(self, task: str) -> ReadOptions:
        """What the spec states, as the readers take it."""
        return TableOptions(spec=self.spec).read_options(task)


@dataclass(frozen=True, kw_only=True)
class TableOptions(SpecOptions):
    """How a verb reads labeled data; what is not given is as the spec states it."""

    label_column: Annotated[str | None, typer.Option(help="Column with the label.")] = None
    series_column: Annotated[str | None, typer.Option(help="Column that tells series apart.")] = None
    group_column: Annotated[str | None, typer.Option(help="Column with the machine, run or person.")] = None
    channels: Annotated[str | None, typer.Option(help="Channel columns, separated by commas.")] = None
    window: Annotated[
        str | None,
        typer.Option(help="Cut recordings into windows of so many steps, or of a time: 100, 1s."),
    ] = None
    stride: Annotated[
        str | None, typer.Option(help="Steps or time from one window to the next. [the window]")
    ] = None
    time_column: Annotated[
        str | None, typer.Option(help="Column with the time. [time, timestamp, date and the like]")
    ] = None
    time_unit: Annotated[
        str | None,
        typer.Option(help="Unit of times that are numbers: s, ms, us, ns. [by the column's name, else s]"),
    ] = None
    label_from: Annotated[
        str | None,
        typer.Option(
            help="Label and group in the names of a folder's recordings: '{label}/{group}_*'. "
            "[labels.csv, else the sub-folder is the label]"
        ),
    ] = None
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of text files that are not UTF-8: cp932, cp1252.")
    ] = None

    def __post_init__(self) -> None:
        if self.spec is None:
            return
        for name, value in read_spec(self.spec).items():
            if name != "period" and getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def spans(self) -> tuple[Span | None, Span | None]:
        """Window and stride as they were stated.

        Raises:
            InputError: one is neither a number of steps nor a time.
        """
        window = None if self.window is None else Span.parse(self.window, "--window")
        return window, None if self.stride is None else Span.parse(self.stride, "--stride")

    def read_options(self, task: str) -> ReadOptions:
        """The options as the readers take them."""
        values = {name: getattr(self, name) for name in TEXTS}
        period = None if self.spec is None else read_spec(self.spec).get("period")
        return to_options({**values, "channels": self._channels(), "period": period}, task)

    def _channels(self) -> tuple[str, ...] | None:
        """Names; a spec holds a list, because a name may have a comma."""
        if not isinstance(self.channels, str):
            return None if self.channels is None else tuple(self.channels)
        return tuple(name.strip() for name in self.channels.split(",")) if self.channels else None


@dataclass(frozen=True, kw_only=True)
class RemoteOptions(Request):
    """Where a verb measures: here, or on another machine over ssh."""

    on: Annotated[
        str | None, typer.Option(help="Run on another machine: ssh://USER@HOST[:PORT]. [this machine]")
    ] = None
    remote_python: Annotated[str, typer.Option(help="Python on that machine.")] = "python3"
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Folder made by `edgesparse wheelhouse`, installed on that machine.")
    ] = None

    def target(self) -> Target | None:
        """The other machine; None for this one.

        Raises:
            InputError: options for another machine where none is named, or an address that cannot be read.
        """
        if self.on is not None:
            return Target.parse(self.on, self.remote_python)
        if self.wheelhouse is not None:
            raise InputError("`--wheelhouse` is for another machine. Add --on ssh://USER@HOST.")
        if self.remote_python != "python3":
            raise InputError("`--remote-python` is for another machine. Add --on ssh://USER@HOST.")
        return None
