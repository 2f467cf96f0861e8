"""`edgesparse monitor`: has the line changed since its reference was learned?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import Precision, TableOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import check_output, note_data
from edgesparse_runtime.cli.running.monitor_learn import LearnOptions, learn_reference
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.measure.report.alarms import check_picture, draw_alarms
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.alarm import Alarm
from edgesparse_runtime.stream.monitor.model import (
    contexts_of,
    error_limit,
    errors_of,
    find_reference,
    predict_signals,
    signals_for,
)
from edgesparse_runtime.stream.monitor.monitor import Monitor
from edgesparse_runtime.stream.monitor.rate import DEFAULT, Rate
from edgesparse_runtime.stream.monitor.stored_scores import are_stored_scores, read_stored_scores

_MOST_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class MonitorRequest(TableOptions, LearnOptions):
    """Arguments and options of `edgesparse monitor`."""

    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[learn] BUNDLE DATA",
            help="Bundle, and a data file or stored scores of `run --follow`; `learn` makes a reference.",
            show_default=False,
        ),
    ]
    false_alarms: Annotated[
        str, typer.Option(help="Most false alarms, per machine: 1/90d, or 1/100000w for windows.")
    ] = DEFAULT
    reference: Annotated[Path | None, typer.Option(help="Reference of `monitor learn`. [the bundle's]")] = (
        None
    )
    state: Annotated[
        Path | None, typer.Option(help="Resume from this file, and keep the evidence there.")
    ] = None
    labels: Annotated[
        bool,
        typer.Option("--labels", help="The data are labeled windows that came late: test for harm alone."),
    ] = False
    error_limit: Annotated[
        float | None,
        typer.Option(help="Share of errors that is in order. [upper end of the bundle's interval]"),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Picture of each alarm, before and after: .html or .svg; learn: reference."
        ),
    ] = None
    precision: Precision = "auto"


def monitor(request: MonitorRequest) -> None:
    """Compare windows with a reference: exit 3 when the line has changed, at a stated rate of false alarms.

    Example: edgesparse monitor learn pump.edgesparse week_1.csv

    Example: edgesparse monitor pump.edgesparse week_2.csv --false-alarms 1/90d -o change.html

    Example: sensor | edgesparse monitor learn pump.edgesparse - --for 7d
    """
    words = request.words
    if words[0] == "learn":
        if len(words) != 3:
            raise InputError("`edgesparse monitor learn` must be given a bundle and its data.")
        learn_reference(Path(words[1]), words[2], request, request.output, request.as_json, request.precision)
        return
    if len(words) != 2:
        raise InputError("`edgesparse monitor` must be given a bundle and its data.")
    request.check_unused()
    if request.output is not None:
        check_picture(request.output)
        check_output(request.output)
    if request.state is not None:
        check_output(request.state, "--state")
    rate = Rate.parse(request.false_alarms)
    bundle = open_bundle(words[0])
    session = Session(bundle, precision=request.precision)
    limit = error_limit(bundle, request.error_limit) if request.labels else None
    reference = find_reference(session, request.reference)
    watch = Monitor(reference, rate, state=request.state, error_limit=limit)
    alarms = _run(watch, session, bundle, Path(words[1]), request)
    watch.save()
    if request.output is not None:
        write_output(request.output, draw_alarms(alarms, request.output.suffix, bundle.name))
    sha256 = bundle.manifest["files"][bundle.model_file(session.precision)]["sha256"]
    result = {"bundle": words[0], "data": words[1], "sha256": sha256, **watch.to_dict()}
    _show(result, alarms, as_json=request.as_json)
    if watch.problem:
        note(watch.problem)
    if alarms:
        raise GateError(f"{len(alarms)} alarm{'' if len(alarms) == 1 else 's'}; the first: {alarms[0]}.")


def _run(
    watch: Monitor, session: Session, bundle: Bundle, path: Path, request: MonitorRequest
) -> list[Alarm]:
    """Alarms of all windows of a file, in its order."""
    signals = signals_for(session, watch.reference)
    found: list[Alarm | None] = []
    if path.is_file() and are_stored_scores(path):
        if request.labels or watch.reference.context == "hour":
            raise InputError("Stored scores have no labels and no contexts of hours. Give the data file.")
        for score in read_stored_scores(path, bundle.classes):
            values = signals.of_windows(None, score.values[None])[0]
            found.append(watch.add(values, machine=score.machine, context=score.machine, faults=score.faults))
        return [alarm for alarm in found if alarm is not None]
    data = read_for_model(
        path, bundle.manifest, request.read_options(bundle.task), needs_labels=request.labels
    )
    note_data(data)
    if request.labels:
        errors = errors_of(bundle, session.predict(data), data.labels)
        return [alarm for error in errors if (alarm := watch.add_error(error)) is not None]
    _, values_NS, faults = predict_signals(session, signals, data)
    contexts = contexts_of(data, watch.reference.context) or [""] * len(data)
    groups = np.full(len(data), "") if data.groups is None else data.groups
    for i in range(len(data)):
        alarm = watch.add(values_NS[i], machine=str(groups[i]), context=contexts[i], faults=faults[i])
        found.append(alarm)
    return [alarm for alarm in found if alarm is not None]


def _show(result: dict[str, Any], alarms: list[Alarm], *, as_json: bool) -> None:
    if as_json:
        print_json("monitor", {**result, "alarms": [alarm.to_dict() for alarm in alarms]})
        return
    reference = result["reference"]
    print_fields(
        {
            "windows": f"{result['windows']:,} ({result['faulty']:,} of dead sensors)",
            "labels": f"{result['labels']:,}",
            "reference": f"{reference['windows']:,} windows, {reference['blocks']:,} blocks of "
            f"{reference['block']:,}",
            "false alarms": result["false_alarms"] if result["promised"] else "no rate can be promised",
            "evidence": f"{max(result['evidence'], result['harm']):.3g} of {result['threshold']:.3g}",
            "alarms": len(alarms),
        }
    )
    if alarms:
        print()
        rows = [
            [a.kind, a.machine, f"{a.window:,}", a.text or "; ".join(map(str, a.carriers))]
            for a in alarms[:_MOST_SHOWN]
        ]
        print_table(["alarm", "machine", "window", "what"], rows)
