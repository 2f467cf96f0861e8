"""`edgesparse run --follow`: scores of a live stream."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.cli.options import TableOptions
from edgesparse_runtime.cli.output import note
from edgesparse_runtime.cli.running.monitored import StreamMonitor
from edgesparse_runtime.cli.running.operation import Operation
from edgesparse_runtime.data.for_model import grid_of
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import SampleParser, Stream, StreamOptions
from edgesparse_runtime.stream.append_log import AppendLog
from edgesparse_runtime.stream.live import BACKLOG, Reader, run_live
from edgesparse_runtime.stream.monitor.model import signals_for
from edgesparse_runtime.stream.monitor.rate import DEFAULT
from edgesparse_runtime.stream.network.wanted import Wanted
from edgesparse_runtime.stream.sample import Score
from edgesparse_runtime.stream.write import Form, ScoreWriter, Sink

# Sources whose own counts a summary lists.
_MOST_SOURCES = 20


@dataclass(frozen=True, kw_only=True)
class FollowOptions(TableOptions):
    """Options of a live stream."""

    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Score a stream: - for stdin, a growing file, mqtt://HOST/TOPIC, opc.tcp://HOST?node=ID.",
        ),
    ] = False
    period: Annotated[
        float | None, typer.Option(help="Streams: seconds between steps. [from the first samples]")
    ] = None
    lateness: Annotated[float, typer.Option(help="Streams: seconds to wait for samples out of order.")] = 0.0
    max_gap: Annotated[
        int | None,
        typer.Option(
            help="Streams: fill gaps of up to this many steps; longer ones restart the window. "
            "[a tenth of the window]"
        ),
    ] = None
    deadline: Annotated[
        float | None,
        typer.Option(help="Streams: milliseconds from sample to score; misses are counted."),
    ] = None
    backlog: Annotated[int, typer.Option(help="Streams: lines that may wait to be scored.")] = BACKLOG
    bind_topics: Annotated[
        bool,
        typer.Option(
            "--bind-topics",
            help="Streams: a message's MQTT topic is its machine, whatever the message names.",
        ),
    ] = False
    whole_windows: Annotated[
        bool,
        typer.Option("--whole-windows", help="Streams: run a causal model on whole windows too."),
    ] = False

    monitor: Annotated[
        Path | None,
        typer.Option(
            help="Streams: notice a changed line; the state is kept in this file (docs/guides/operate.md)."
        ),
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option(help="Streams: reference of `edgesparse monitor learn`. [the bundle's]"),
    ] = None
    false_alarms: Annotated[
        str, typer.Option(help="Streams: most false alarms of the monitor, per machine: 1/90d, 1/100000w.")
    ] = DEFAULT
    publish: Annotated[
        str | None,
        typer.Option(help="Streams: send events and alarms to mqtt://HOST[:PORT]/TOPIC too."),
    ] = None

    def check_unused(self) -> None:
        """Refuse options of streams where no stream is followed.

        Raises:
            InputError: one of them is given.
        """
        for field in fields(FollowOptions):
            is_own = field.name in FollowOptions.__annotations__
            if is_own and getattr(self, field.name) != field.default:
                raise InputError(f"`--{field.name.replace('_', '-')}` is for streams. Add --follow.")


def follow(
    session: Session, files: list[str], output: Path | None, form: str, options: FollowOptions
) -> None:
    """Score one source until it ends or is interrupted; the last line is a summary.

    Raises:
        InputError: not one source, or options that do not fit the model.
    """
    if len(files) != 1:
        raise InputError(f"`--follow` must have one source; got {len(files)}. Start one process per stream.")
    if form not in ("json", "csv"):
        raise InputError(f"`--format` of a stream must be json or csv; got {form}.")
    if options.deadline is not None and not options.deadline > 0:
        raise InputError(f"`--deadline` must be above 0 milliseconds; got {options.deadline:g}.")
    chosen: Form = "json" if form == "json" else "csv"
    operation = Operation(session, options)
    stream = _stream(session, options, operation.watch)
    parser = SampleParser(
        session, stream.counts, time_column=options.time_column, time_unit=options.time_unit
    )
    wanted = Wanted(tuple(parser.channels), _period(session, options))
    reader = Reader(files[0], stream.counts, note=note, limit=options.backlog, wanted=wanted)
    classes = session.bundle.classes if session.bundle else ()
    note(_begin_line(files[0], stream))
    began = time.perf_counter()
    with _opened(output, form) as (out, header):
        has_ended = False
        writer = ScoreWriter(out, chosen, classes, header=header)

        def write(score: Score, is_late: bool) -> None:
            if isinstance(out, AppendLog) and out.reopen_if_moved():
                writer.begin_file(out.first_row() if chosen == "csv" else ())
            writer.write(score, is_late)
            operation.after(writer, score, is_late)

        try:
            has_ended = run_live(reader, stream, parser, write, note=note, bind_topics=options.bind_topics)
        except BrokenPipeError:
            # The reader of our output closed it: an end like any other.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            summary = _summary(stream, time.perf_counter() - began)
            _note_summary(summary)
            summary |= operation.end()
            writer.write_summary(summary)
    _check_end(stream, has_ended, operation.alarms)


def _stream(session: Session, options: FollowOptions, watch: StreamMonitor | None) -> Stream:
    window, stride = _in_steps(session, options)
    signals = None if watch is None else signals_for(session, watch.monitor.reference)
    return Stream(
        session,
        StreamOptions(
            window=window,
            stride=stride,
            period=options.period,
            lateness=options.lateness,
            max_gap=options.max_gap,
            deadline=None if options.deadline is None else options.deadline / 1e3,
            whole_windows=options.whole_windows,
        ),
        signals=signals,
    )


def _check_end(stream: Stream, has_ended: bool, alarms: int) -> None:
    """What a stream that is over comes to.

    Raises:
        InputError: not one of its lines could be read.
        GateError: it ended by itself, and a sensor looks dead or the monitor gave an alarm.
    """
    counts = stream.counts
    if counts.malformed and not counts.samples:
        raise InputError(f"None of the stream's {counts.malformed:,} lines could be read.")
    if not counts.scores:
        note(_why_no_score(stream))
    if counts.faulty and has_ended:
        # A service that is stopped has said so with every score.
        raise GateError(
            f"{counts.faulty} of {counts.scores} windows look as if a sensor were at fault; see `faults` "
            "before trusting their decisions."
        )
    if alarms and has_ended:
        raise GateError(f"the monitor gave {alarms} alarm{'' if alarms == 1 else 's'}; see `alarm` lines.")


def _in_steps(session: Session, options: FollowOptions) -> tuple[int | None, int | None]:
    """Window and stride in steps; the period is the one stated, else the model's."""
    period = options.period
    if period is None and session.bundle is not None:
        period = grid_of(session.bundle.manifest).period
    window, stride = options.spans()
    what = f"{session.path.name} (or --period)"
    return (
        None if window is None else window.to_steps(period, what, "--window"),
        None if stride is None else stride.to_steps(period, what, "--stride"),
    )


def _period(session: Session, options: FollowOptions) -> float | None:
    """Seconds between steps: stated, else the model's."""
    if options.period is None and session.bundle is not None:
        return grid_of(session.bundle.manifest).period
    return options.period


def _why_no_score(stream: Stream) -> str:
    counts, window = stream.counts, stream.options.window
    rest = counts.late + counts.duplicates + counts.strays
    return (
        f"no score: a window is {window:,} consecutive steps, and the stream had {counts.steps:,} in all"
        + (f", with {counts.restarts:,} longer gap(s)" if counts.restarts else "")
        + (f"; {rest:,} samples had unusable time stamps (see --time-unit, --lateness)" if rest else "")
    )


@contextlib.contextmanager
def _opened(output: Path | None, form: str) -> Iterator[tuple[Sink, list[str]]]:
    """Where scores go, and the header of the scores that it holds already.

    A file is appended to, line by line: it is a log, and a restarted service continues it.

    Raises:
        InputError: it cannot be written, or holds something of another form.
    """
    if output is None:
        yield sys.stdout, []
        return
    try:
        log = AppendLog(output)
        first = log.first_byte()
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}.") from None
    with contextlib.closing(log):
        if first and (first == b"{") != (form == "json"):
            raise InputError(
                f"{output} does not hold {form} lines, so none can be appended. Choose another file."
            )
        yield log, log.first_row() if form == "csv" else []


def _begin_line(source: str, stream: Stream) -> str:
    options = stream.options
    place = {"-": "standard input"}.get(source, source)
    if stream.is_incremental:
        how = (
            f"sample by sample, one score every {options.stride} steps over at most {options.window}, float32"
        )
    else:
        how = (
            f"windows of {options.window} steps every {options.stride}, "
            f"{stream.session.precision}, {stream.session.engine}"
        )
    return f"{place}: {how}, gaps of up to {options.max_gap} filled"


def _summary(stream: Stream, seconds: float) -> dict[str, Any]:
    known = {machine: period for machine, period in stream.periods.items() if period is not None}
    periods = sorted(known.values())
    troubled = {
        name: {field: count for field, count in asdict(counts).items() if count}
        for name, counts in stream.counts.sources.items()
        if counts.malformed or counts.dropped or counts.failed
    }
    return {
        **stream.counts.to_dict(),
        "sources": dict(list(troubled.items())[:_MOST_SOURCES]),
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
    left_out = {"seconds", "period_s", "machines", "sources"} | {
        k for k in summary if k.startswith("latency_ms")
    }
    shown = [
        f"{value:,} {name.replace('_', ' ')}"
        for name, value in summary.items()
        if name not in left_out and (value or name in always)
    ]
    note(f"{', '.join(shown)}; latency {latency}; {summary['seconds']:.1f} s")
