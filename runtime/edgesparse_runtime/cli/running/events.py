"""`edgesparse events fit`: rules that turn scores into events, at a stated rate of false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import check_target, copy_bundle, rewrite_bundle
from edgesparse_runtime.cli.options import Precision, TableOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import note_data
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.operation.events.fit import fit_rules
from edgesparse_runtime.operation.events.model import describe, hold_out, plain_rule, tracks_of
from edgesparse_runtime.operation.events.rule import FILE, EventRule, EventRules
from edgesparse_runtime.operation.events.timeline import Track, count_events
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.model import learned_of
from edgesparse_runtime.stream.monitor.rate import Rate


@dataclass(frozen=True, kw_only=True)
class EventsRequest(TableOptions):
    """Arguments and options of `edgesparse events`."""

    words: Annotated[
        list[str],
        typer.Argument(
            metavar="fit BUNDLE RECORDINGS",
            help="Bundle, and labeled recordings that it was not trained on.",
            show_default=False,
        ),
    ]
    max_false_alarms: Annotated[
        str,
        typer.Option(help="Most false alarms of all classes together: 1/d, 2/12h, or 1/100000w for windows."),
    ] = "1/d"
    quiet: Annotated[
        list[str] | None,
        typer.Option(help="Class that is no event, such as normal; may be repeated. [none]"),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Bundle to write, NAME.edgesparse. [the rules go into BUNDLE]"),
    ] = None
    precision: Precision = "auto"


def events(request: EventsRequest) -> None:
    """Fit k of n, hysteresis and refractory time per class: the shortest delay at a rate of false alarms.

    Example: edgesparse events fit pump.edgesparse recordings.csv --max-false-alarms 1/d --quiet normal
    """
    words = request.words
    if words[0] != "fit" or len(words) != 3:
        raise InputError("`edgesparse events` must be given fit, a bundle and its recordings.")
    rate = Rate.parse(request.max_false_alarms, "--max-false-alarms")
    bundle = open_bundle(words[1])
    names = _names(bundle, request.quiet or [])
    _check_place(bundle, request.output)
    data = read_for_model(words[2], bundle.manifest, request.read_options(bundle.task))
    note_data(data)
    session = Session(bundle, precision=request.precision)
    tracks = tracks_of(session, data)
    seconds = learned_of(data, len(data)).seconds_per_window
    windows = rate.in_windows(seconds, "recordings", "--max-false-alarms")
    rules = fit_rules(bundle.classes, names, tracks, windows)
    _check_found(names, rules, request.max_false_alarms)
    kept = [rule for rule in rules if rule is not None]
    fitted = _measure(bundle, kept, tracks, windows, seconds)
    stored = EventRules(tuple(kept), rate.text, seconds, {"recordings": len(tracks), **fitted})
    files = {FILE: stored.to_json().encode()}
    if request.output is None:
        written = rewrite_bundle(bundle, files, {})
    else:
        written = copy_bundle(bundle, request.output, files, {})
    _show(written, stored, windows * (seconds or 1), tracks, as_json=request.as_json)


def _names(bundle: Bundle, quiet: list[str]) -> list[str]:
    if not bundle.classes:
        raise InputError(f"{bundle.path} must be a classifier to have events.")
    for name in quiet:
        if name not in bundle.classes:
            raise InputError(f"`--quiet` must be one of {', '.join(bundle.classes)}; got {name}.")
    names = [name for name in bundle.classes if name not in quiet]
    if not names:
        raise InputError("`--quiet` must leave at least one class that is an event.")
    return names


def _check_place(bundle: Bundle, output: Path | None) -> None:
    if output is not None:
        check_target(output)
    elif bundle.signature is not None:
        raise InputError(
            f"{bundle.path} is signed, and new rules would void the signature. Use -o NAME.edgesparse, and "
            "sign that."
        )


def _check_found(names: list[str], rules: list[EventRule | None], rate: str) -> None:
    lost = [name for name, rule in zip(names, rules, strict=True) if rule is None]
    if lost:
        raise GateError(
            f"No rule for {', '.join(lost)} keeps {rate} and finds an event. Allow more false alarms, or "
            f"leave the class out: --quiet {lost[0]}. Nothing was written."
        )


def _measure(
    bundle: Bundle, rules: list[EventRule], tracks: list[Track], windows: float, seconds: float | None
) -> dict[str, Any]:
    """Counts on the recordings themselves, on recordings left out, and of single windows over a half."""
    names = [rule.name for rule in rules]
    left_out = hold_out(bundle.classes, names, tracks, windows)
    found: dict[str, Any] = {}
    for rule in rules:
        column = bundle.classes.index(rule.name)
        found[rule.name] = {
            "fitted": describe(count_events(rule, column, tracks), seconds),
            "held_out": None if left_out is None else describe(left_out[rule.name], seconds),
            "single_windows": describe(count_events(plain_rule(rule.name), column, tracks), seconds),
        }
    return {"classes": found}


def _show(
    bundle: Bundle, stored: EventRules, per_alarm: float, tracks: list[Track], *, as_json: bool
) -> None:
    if as_json:
        print_json("events", {"bundle": str(bundle.path), **stored.to_dict()})
    else:
        classes = stored.fitted["classes"]
        print_fields(
            {
                "bundle": bundle.path,
                "recordings": len(tracks),
                "false alarms": f"at most {stored.false_alarms}",
            }
        )
        print()
        held = any(entry["held_out"] for entry in classes.values())
        kind = "held_out" if held else "fitted"
        unit = "s" if stored.seconds_per_window else "windows"
        rows = []
        for rule in stored.rules:
            mine, plain = classes[rule.name][kind], classes[rule.name]["single_windows"]
            rows.append(
                [
                    rule.name,
                    f"{rule.needed} of {rule.windows}",
                    f"{rule.enter:.4f}",
                    f"{mine['false_alarms']} in {mine['windows_of_others']:,}",
                    f"{mine['found']:.0%} of {mine['episodes']}",
                    mine[f"delay_{unit}_median"],
                    f"{plain['false_alarms']}, {plain[f'delay_{unit}_median']}",
                ]
            )
        where = "left-out recordings" if held else "these recordings"
        print_table(
            [
                *("event", "windows", "score", f"false alarms, {where}", "found", f"delay, {unit}"),
                f"single windows over 0.5: false alarms, delay, {unit}",
            ],
            rows,
        )
    observed = sum(len(track.labels) for track in tracks) * (stored.seconds_per_window or 1)
    if observed < 3 * per_alarm:
        note(
            f"the recordings last {observed / per_alarm:.2g} times the time of one false alarm: the "
            "rate is extrapolated from peaks of the scores; 3 times that time would show it"
        )
