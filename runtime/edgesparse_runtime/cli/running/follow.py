"""`edgesparse run --follow`: scores of a live stream."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from edgesparse_runtime.cli.output import note
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import SampleParser, Stream, StreamOptions
from edgesparse_runtime.stream.live import Reader, run_live
from edgesparse_runtime.stream.write import Form, ScoreWriter

PANEL = "Streams (--follow)"
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Score a stream: - for stdin, a growing file, mqtt://HOST/TOPIC.",
        rich_help_panel=PANEL,
    ),
]
Period = Annotated[
    float | None,
    typer.Option(help="Seconds between steps. [read from the first samples]", rich_help_panel=PANEL),
]
Lateness = Annotated[
    float, typer.Option(help="Seconds to wait for samples out of order.", rich_help_panel=PANEL)
]
MaxGap = Annotated[
    int | None,
    typer.Option(
        help="Missing steps that are filled; more restart the window. [a tenth of it]", rich_help_panel=PANEL
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(help="Milliseconds from sample to score; misses are counted.", rich_help_panel=PANEL),
]
WaitingLines = Annotated[
    int, typer.Option("--backlog", help="Lines that may wait to be scored.", rich_help_panel=PANEL)
]
TimeColumn = Annotated[
    str | None, typer.Option(help="Column with the time stamp. [time, timestamp, t]", rich_help_panel=PANEL)
]
WholeWindows = Annotated[
    bool,
    typer.Option("--whole-windows", help="Run whole windows of a causal model too.", rich_help_panel=PANEL),
]
TimeUnit = Annotated[
    str, typer.Option(help="Of times that are numbers: s, ms, us, ns.", rich_help_panel=PANEL)
]


@dataclass(frozen=True)
class FollowOptions:
    """What the command line says of a stream; `deadline` in milliseconds."""

    window: int | None
    stride: int | None
    period: float | None
    lateness: float
    max_gap: int | None
    deadline: float | None
    backlog: int
    time_column: str | None
    time_unit: str
    whole_windows: bool


def follow(
    session: Session, files: list[str], output: Path | None, form: str, options: FollowOptions
) -> None:
    """Score one source until it ends or is interrupted; a summary stands at the end.

    Raises:
        InputError: not one source, or options that do not fit the model.
    """
    if len(files) != 1:
        raise InputError(f"`--follow` must have one source; got {len(files)}. Start one process a stream.")
    if form not in ("json", "csv"):
        raise InputError(f"`--format` of a stream must be json or csv; got {form}.")
    if options.deadline is not None and not options.deadline > 0:
        raise InputError(f"`--deadline` must be above 0 milliseconds; got {options.deadline:g}.")
    chosen: Form = "json" if form == "json" else "csv"
    stream = Stream(
        session,
        StreamOptions(
            window=options.window,
            stride=options.stride,
            period=options.period,
            lateness=options.lateness,
            max_gap=options.max_gap,
            deadline=None if options.deadline is None else options.deadline / 1e3,
            whole_windows=options.whole_windows,
        ),
    )
    parser = SampleParser(
        session, stream.counts, time_column=options.time_column, time_unit=options.time_unit
    )
    reader = Reader(files[0], stream.counts, note=note, limit=options.backlog)
    classes = session.bundle.classes if session.bundle else ()
    note(_begin_line(files[0], stream))
    began = time.perf_counter()
    with _opened(output, form) as (out, is_begun):
        writer = ScoreWriter(out, chosen, parser, classes, has_header=is_begun)
        try:
            run_live(reader, stream, parser, writer.write, note=note)
        except BrokenPipeError:
            # Whoever read our output has had enough: an end like any other.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            summary = _summary(stream, time.perf_counter() - began)
            _note_summary(summary)
            writer.write_summary(summary)
    counts = stream.counts
    if counts.malformed and not counts.samples:
        raise InputError(
            f"The stream must have lines that can be read; none of {counts.malformed:,} could be."
        )
    if not counts.scores:
        note(_why_no_score(stream))


def _why_no_score(stream: Stream) -> str:
    counts, window = stream.counts, stream.options.window
    rest = counts.late + counts.duplicates + counts.strays
    return (
        f"no score: a window is {window:,} steps in a row, and the stream gave {counts.steps:,} in all"
        + (f", with {counts.restarts:,} longer gap(s)" if counts.restarts else "")
        + (f"; {rest:,} samples had a time stamp of no use (see --time-unit, --lateness)" if rest else "")
    )


@contextlib.contextmanager
def _opened(output: Path | None, form: str) -> Iterator[tuple[TextIO, bool]]:
    """Where scores go, and whether something stands there already.

    A file is appended to, line by line: it is a log, and a service that starts again goes on with it.

    Raises:
        InputError: it cannot be written, or holds something of another form.
    """
    if output is None:
        yield sys.stdout, False
        return
    try:
        stream = output.open("a", encoding="utf-8")
        first = _first_byte(output) if output.is_file() else b""
    except OSError as error:
        raise InputError(f"{output} must be a file that can be written; {error.strerror}.") from None
    with stream:
        if first and (first == b"{") != (form == "json"):
            raise InputError(f"{output} must hold {form} lines, to be appended to; it holds something else.")
        yield stream, bool(first)


def _first_byte(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(1)


def _begin_line(source: str, stream: Stream) -> str:
    options = stream.options
    place = {"-": "standard input"}.get(source, source)
    if stream.is_incremental:
        how = f"sample by sample, scores every {options.stride} over at most {options.window} steps, float32"
    else:
        how = (
            f"windows of {options.window} steps every {options.stride}, "
            f"{stream.session.precision}, {stream.session.engine}"
        )
    return f"{place}: {how}, gaps of up to {options.max_gap} filled"


def _summary(stream: Stream, seconds: float) -> dict[str, Any]:
    known = {machine: period for machine, period in stream.periods.items() if period is not None}
    periods = sorted(known.values())
    return {
        **stream.counts.to_dict(),
        "machines": len(stream.periods),
        "period_s": [round(p, 9) for p in (periods[0], periods[-1])] if periods else None,
        "seconds": round(seconds, 3),
    }


def _note_summary(summary: dict[str, Any]) -> None:
    """The counts that are not zero, in one line."""
    latency = (
        f"p50 {summary['latency_ms_p50']:.2f} ms, p99 {summary['latency_ms_p99']:.2f}, "
        f"max {summary['latency_ms_max']:.2f}"
    )
    always = ("samples", "scores")
    left_out = {"seconds", "period_s", "machines"} | {k for k in summary if k.startswith("latency_ms")}
    shown = [
        f"{value:,} {name.replace('_', ' ')}"
        for name, value in summary.items()
        if name not in left_out and (value or name in always)
    ]
    note(f"{', '.join(shown)}; latency {latency}; {summary['seconds']:.1f} s")
