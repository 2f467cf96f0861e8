"""`edgesparse monitor learn`: a reference, from a data file or a commissioning period on a stream."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Protocol

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.cli.output import note, print_fields, print_json
from edgesparse_runtime.cli.preflight import check_output, note_data
from edgesparse_runtime.cli.running.monitored import hour_of
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.readers import ReadOptions
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream import SampleParser, Stream
from edgesparse_runtime.stream.live import Reader, run_live
from edgesparse_runtime.stream.monitor.commission import Commission
from edgesparse_runtime.stream.monitor.model import learn_from, signals_of
from edgesparse_runtime.stream.monitor.rate import parse_duration
from edgesparse_runtime.stream.monitor.reference import CONTEXTS, FILE, Reference
from edgesparse_runtime.stream.monitor.signals import Signals
from edgesparse_runtime.stream.sample import Score


@dataclass(frozen=True, kw_only=True)
class LearnOptions:
    """Options of `monitor learn`."""

    for_time: Annotated[
        str | None,
        typer.Option("--for", help="learn: follow a stream (-, file, mqtt://HOST/TOPIC) for so long: 7d."),
    ] = None
    context: Annotated[
        str | None,
        typer.Option(help="learn: compare windows with those of the same hour, or group (machine, mode)."),
    ] = None
    routing: Annotated[
        bool,
        typer.Option("--routing", help="learn: with the blocks that sparse layers attend to."),
    ] = False

    def check_unused(self) -> None:
        """Refuse options of `learn` where nothing is learned.

        Raises:
            InputError: one of them is given.
        """
        for field in fields(LearnOptions):
            if getattr(self, field.name) != field.default:
                flag = {"for_time": "for"}.get(field.name, field.name)
                raise InputError(f"`--{flag}` is for `edgesparse monitor learn`.")


class _Request(Protocol):
    """What is needed of the request."""

    @property
    def for_time(self) -> str | None: ...
    @property
    def context(self) -> str | None: ...
    @property
    def routing(self) -> bool: ...
    @property
    def time_column(self) -> str | None: ...
    @property
    def time_unit(self) -> str | None: ...
    def read_options(self, task: str) -> ReadOptions: ...


def learn_reference(
    path: Path, source: str, request: _Request, output: Path | None, as_json: bool, precision: str
) -> None:
    """Learn a reference and store it: in the bundle, or at `output`.

    Raises:
        InputError: a model or data without what a reference needs.
    """
    context = request.context or ""
    if context not in ("", *CONTEXTS):
        raise InputError(f"`--context` must be {' or '.join(CONTEXTS)}; got {context}.")
    bundle = open_bundle(path)
    if output is not None:
        check_output(output)
    elif bundle.signature is not None:
        raise InputError(
            f"{path} is signed, and a new reference would void the signature. Use -o FILE here, and "
            "--reference FILE when monitoring."
        )
    session = Session(bundle, precision=precision)
    signals = signals_of(session, routing=request.routing)
    if request.for_time is None:
        data = read_for_model(source, bundle.manifest, request.read_options(bundle.task), needs_labels=False)
        note_data(data)
        reference = learn_from(session, signals, data, context=context)
    else:
        seconds = parse_duration(request.for_time, "--for")
        place = (output or path).with_name((output or path).name + ".learning")
        commission = Commission(place, signals.names)
        try:
            reference = _follow(session, signals, source, seconds, context, request, commission)
        except BaseException:
            commission.close(is_done=False)
            raise
        _store(bundle, reference, output)
        commission.close(is_done=True)
        _show(reference, output or path, as_json=as_json)
        return
    _store(bundle, reference, output)
    _show(reference, output or path, as_json=as_json)


def _follow(
    session: Session,
    signals: Signals,
    source: str,
    seconds: float,
    context: str,
    request: _Request,
    commission: Commission,
) -> Reference:
    """The reference of a stream's first `seconds`, those of an earlier process included.

    Raises:
        InputError: the stream ended before.
    """
    if context == "group":
        raise InputError(
            "`--context group` is for data files; on a stream each machine is watched by itself."
        )
    stream = Stream(session, signals=signals)
    parser = SampleParser(
        session, stream.counts, time_column=request.time_column, time_unit=request.time_unit or "s"
    )
    reader = Reader(source, stream.counts, note=note)
    if commission.windows:
        note(f"{commission.path}: resumes with {commission.windows:,} windows")

    def write(score: Score, is_late: bool) -> None:
        stream.is_late(score)
        if score.faults or score.signals is None:
            return
        hour = hour_of(score) if context else 0
        # Without time stamps `score.time` is a number of samples.
        when = time.time() if stream.periods.get(score.machine) is None else score.time
        commission.add(score.signals, machine=score.machine, time=when, hour=hour)
        if commission.seconds() >= seconds:
            reader.stop()

    run_live(reader, stream, parser, write, note=note)
    options = stream.options
    assert options.window is not None and options.stride is not None
    known = [period for period in stream.periods.values() if period is not None]
    passed = commission.seconds()
    if passed < seconds:
        raise InputError(
            f"`--for` {request.for_time} is not over: the stream ended after {passed:,.0f} s and "
            f"{commission.windows:,} windows. They are kept in {commission.path}; run it again to resume."
        )
    per_window = options.stride * known[0] if known else None
    overlap = max(1, -(-options.window // options.stride))
    return commission.learn(overlap=overlap, seconds_per_window=per_window, source=source, context=context)


def _store(bundle: Bundle, reference: Reference, output: Path | None) -> None:
    if output is None:
        rewrite_bundle(bundle, {FILE: reference.to_json().encode()}, {})
    else:
        write_output(output, reference.to_json())


def _show(reference: Reference, place: Path, *, as_json: bool) -> None:
    blocks, learned = reference.blocks, reference.learned
    facts = {
        "reference": str(place),
        "windows": learned.windows,
        "signals": len(reference.signals),
        "block": blocks.windows,
        "blocks": blocks.count,
        "seconds_per_window": learned.seconds_per_window,
        "problem": blocks.problem,
    }
    if as_json:
        print_json("monitor_learn", facts)
    else:
        print_fields(
            {key.replace("_", " "): value for key, value in facts.items() if value not in ("", None)}
        )
    if blocks.problem:
        note(blocks.problem)
