"""`edgesparse update`: a challenger from new data, held against the champion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import typer

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import check_target
from edgesparse_runtime.cli.options import BundleArgument, Precision, TableOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import note_data
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.evaluation.evaluate import known_labels
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.operation.update.ask import Choice, choose_windows
from edgesparse_runtime.operation.update.challenger import STALE, data_hash, release_after, write_challenger
from edgesparse_runtime.operation.update.head import read_head
from edgesparse_runtime.operation.update.known import features_of, join, merge, read_domain
from edgesparse_runtime.operation.update.known_score import raised_threshold
from edgesparse_runtime.operation.update.learn import learn
from edgesparse_runtime.operation.update.paired import Paired
from edgesparse_runtime.operation.update.reservoir import check_keep, choose_kept
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.rate import parse_duration

_Numbers = tuple[int, float | None]
MODES = ("calibrate", "head", "full")


class Gains(Protocol):
    """What a challenger gains on new and old windows."""

    @property
    def new(self) -> Paired:
        """On new windows."""

    @property
    def old(self) -> Paired | None:
        """On old ones; None where there are none."""

    @property
    def penalty(self) -> float | None:
        """On the change of a head; None otherwise."""


@dataclass(frozen=True, kw_only=True)
class UpdateRequest(TableOptions):
    """Arguments and options of `edgesparse update`."""

    bundle: BundleArgument
    new: Annotated[
        Path,
        typer.Argument(metavar="NEWDATA", help="Labeled series of the changed line.", show_default=False),
    ]
    old: Annotated[
        Path | None, typer.Option(help="Labeled series of before, on which it must not get worse.")
    ] = None
    mode: Annotated[
        str,
        typer.Option(
            help="calibrate (temperature, offsets), head (last layer): both without torch; full (trained on "
            "old and new windows together)."
        ),
    ] = "head"
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Challenger to write, NAME.edgesparse.")
    ] = None
    margin: Annotated[
        float, typer.Option(help="Accuracy that the old data may lose, by the lower end of the interval.")
    ] = 0.02
    release: Annotated[int | None, typer.Option(help="Release number. [one more than the champion's]")] = None
    expires: Annotated[
        str | None, typer.Option(help="The challenger is refused after so long: 90d. [never]")
    ] = None
    ask: Annotated[
        int | None,
        typer.Option(help="Name so many windows of unlabeled NEWDATA to label next; write nothing."),
    ] = None
    keep: Annotated[
        Path | None,
        typer.Option(help="Write a part of the old and new windows here, the next update's --old: KEPT.csv."),
    ] = None
    keep_windows: Annotated[int, typer.Option(help="Most windows of --keep; each class has as many.")] = 500
    precision: Precision = "auto"


def update(request: UpdateRequest) -> None:
    """Fit a model to new data; exit 3 unless better there and no worse on old data.

    Example: edgesparse update pump.edgesparse moved.csv --old pump_TRAIN.csv -o pump_2.edgesparse

    Example: edgesparse update pump.edgesparse moved.csv --mode full --old kept.csv -o pump_2.edgesparse

    Example: edgesparse update pump.edgesparse unlabeled.csv --ask 20
    """
    bundle = open_bundle(request.bundle)
    if not bundle.classes:
        raise InputError(f"{bundle.path} must be a classifier to be updated. Train a new model.")
    session = Session(bundle, precision=request.precision)
    if request.ask is not None:
        _ask(bundle, session, request)
        return
    if request.mode not in MODES:
        raise InputError(f"`--mode` must be one of {', '.join(MODES)}; got {request.mode}.")
    if request.output is None:
        raise InputError("`--out` must name the challenger: -o NAME.edgesparse.")
    if not 0 <= request.margin < 1:
        raise InputError(f"`--margin` must be 0 to 1; got {request.margin:g}.")
    check_target(request.output)
    if request.output.resolve() == bundle.path.resolve():
        raise InputError("`--out` must be another place than the champion's: it may have to come back.")
    check_keep(request.keep, request.keep_windows)
    release = release_after(bundle, request.release)
    expires = None if request.expires is None else parse_duration(request.expires, "--expires")
    new = _read(bundle, request.new, request)
    old = None if request.old is None else _read(bundle, request.old, request)
    numbers = (release, expires)
    kept = None if request.keep is None else choose_kept(bundle, new, old, request.keep_windows)
    make = _retrain if request.mode == "full" else _refit
    written = make(bundle, session, new, old, request, numbers, {} if kept is None else {"seen": kept.seen})
    if kept is not None and request.keep is not None:
        write_csv(request.keep, kept.windows)
        note(f"{len(kept.windows)} of the windows seen so far are kept in {request.keep}")
    if broken := [check for check in verify(written) if not check.holds]:
        raise GateError(f"{request.output}: its golden windows must hold; {broken[0].boundary} does not.")
    if gone := [name for name in STALE if name in bundle.manifest["files"]]:
        note(f"{' and '.join(gone)} of the champion are left out: they are of its scores. Fit them again.")


def _refit(
    bundle: Bundle,
    session: Session,
    new_data: SeriesSet,
    old_data: SeriesSet | None,
    request: UpdateRequest,
    numbers: _Numbers,
    seen: dict[str, Any],
) -> Bundle:
    """The challenger with another last layer, or another calibration of it."""
    assert request.output is not None
    new = read_domain(bundle, session, new_data)
    old = None if old_data is None else read_domain(bundle, session, old_data)
    before = read_head(bundle.read(bundle.model_file(session.precision)), str(bundle.path))
    found = learn(before, merge(new, old), new, old, request.mode)
    fields = _fields(bundle, request, found, numbers, seen)
    known = raised_threshold(bundle, [domain.unknown for domain in (new, old) if domain is not None])
    if known is not None:
        fields["unknown"] = known
    _show(request, found, fields)
    _check_gate(found, request.margin)
    return write_challenger(bundle, found.head, request.output, fields)


def _retrain(
    bundle: Bundle,
    session: Session,
    new: SeriesSet,
    old: SeriesSet | None,
    request: UpdateRequest,
    numbers: _Numbers,
    seen: dict[str, Any],
) -> Bundle:
    """The challenger trained on old and new windows together."""
    require("update --mode full", "export", "torch", "onnx", "onnxscript", "safetensors", "yaml")
    from edgesparse_export.full_update import config_of, measure, write_full

    assert request.output is not None
    if old is None:
        raise InputError("`--mode full` needs the windows of before: --old DATA, or what --keep wrote.")
    config = config_of(bundle)
    found = measure(session, new, old, config, say=(lambda text: None) if request.as_json else note)
    fields = _fields(bundle, request, found, numbers, seen)
    _show(request, found, fields)
    _check_gate(found, request.margin)
    return write_full(bundle, join([new, old]), config, request.output, fields)


def _read(bundle: Bundle, path: Path, request: UpdateRequest) -> SeriesSet:
    data = read_for_model(path, bundle.manifest, request.read_options(bundle.task))
    note_data(data)
    assert data.labels is not None
    return replace(data, labels=known_labels(data.labels, bundle.classes, data.source))


def _fields(
    bundle: Bundle, request: UpdateRequest, found: Gains, numbers: _Numbers, seen: dict[str, Any]
) -> dict[str, Any]:
    """What the challenger's manifest holds of where it comes from."""
    release, expires = numbers
    sources = {"new": request.new} | ({} if request.old is None else {"old": request.old})
    fields: dict[str, Any] = {
        "release": release,
        "parent": bundle.sha256,
        "update": {
            "mode": request.mode,
            "data": {
                kind: {"source": path.name, "sha256": data_hash(path)} for kind, path in sources.items()
            },
            "penalty": found.penalty,
            "margin": request.margin,
            "new": found.new.to_dict(),
            "old": None if found.old is None else found.old.to_dict(),
            **seen,
        },
        # Those of the champion are of other scores.
        "metrics": {},
        "temperature": None,
    }
    if expires is not None:
        end = datetime.now(UTC) + timedelta(seconds=expires)
        fields["expires"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    return fields


def _check_gate(found: Gains, margin: float) -> None:
    """Better on new data, no worse on old.

    Raises:
        GateError: one of the two is not shown.
    """
    new, old = found.new, found.old
    if not new.low > 0:
        raise GateError(
            f"The challenger must be better on the new data; the {new.name} gains {new.difference:+.4f} "
            f"[{new.low:+.4f}, {new.high:+.4f}]. Nothing was written."
        )
    if old is not None and not old.low >= -margin:
        raise GateError(
            f"The challenger must lose at most {margin:g} of accuracy on the old data; it gains "
            f"{old.difference:+.4f} [{old.low:+.4f}, {old.high:+.4f}]: {old.n} windows show no margin below "
            f"{old.margin:.4f}. Nothing was written."
        )


def _show(request: UpdateRequest, found: Gains, fields: dict[str, Any]) -> None:
    if request.as_json:
        print_json("update", {"bundle": str(request.bundle), "out": str(request.output), **fields})
    else:
        print_fields({"mode": request.mode, "release": fields["release"], "parent": fields["parent"][:16]})
        print()
        rows = [_row("new", found.new)] + ([] if found.old is None else [_row("old", found.old)])
        print_table(["data", "figure", "champion", "challenger", "gain", "95 %", "won, lost", "p", "n"], rows)
    if found.old is None:
        note("without --old DATA it is not known whether the challenger is worse on the windows of before")
    else:
        note(f"the smallest margin that these {found.old.n:,} old windows can show is {found.old.margin:.4f}")


def _row(name: str, pair: Paired) -> list[object]:
    interval = f"[{pair.low:+.3f}, {pair.high:+.3f}]"
    return [
        *(name, pair.name, f"{pair.before:.3f}", f"{pair.after:.3f}", f"{pair.difference:+.3f}"),
        *(interval, f"{pair.gained}, {pair.lost}", f"{pair.p:.2g}"),
        f"{pair.n:,}" if pair.groups is None else f"{pair.n:,} of {pair.groups} groups",
    ]


def _ask(bundle: Bundle, session: Session, request: UpdateRequest) -> None:
    """Which windows to label next."""
    assert request.ask is not None
    if request.ask < 1:
        raise InputError(f"`--ask` must be at least 1; got {request.ask}.")
    options = request.read_options(bundle.task)
    data = read_for_model(request.new, bundle.manifest, options, needs_labels=False)
    note_data(data)
    scores = session.predict(data).astype(np.float64)
    features = features_of(bundle, session, data)
    if request.old is None:
        known = data.with_series(
            list(_golden(bundle)), labels=None, groups=None, ids=None, recordings=None, starts=None
        )
    else:
        known = read_for_model(request.old, bundle.manifest, options, needs_labels=False)
    groups = np.full(len(data), "") if data.groups is None else data.groups
    chosen = choose_windows(request.ask, scores, features, features_of(bundle, session, known), groups)
    rows = [_origin(data, choice, bundle.classes[int(scores[choice.row].argmax())]) for choice in chosen]
    if request.as_json:
        print_json("update_ask", {"bundle": str(request.bundle), "data": str(request.new), "windows": rows})
        return
    print_table(list(rows[0]), [list(row.values()) for row in rows])


def _golden(bundle: Bundle) -> list[Any]:
    return [window for window in bundle.golden()["windows"]]


def _origin(data: SeriesSet, choice: Choice, decision: str) -> dict[str, Any]:
    found: dict[str, Any] = {"window": choice.row}
    for name in ("groups", "recordings", "ids", "starts"):
        column = getattr(data, name)
        if column is not None:
            found[name.removesuffix("s")] = str(column[choice.row])
    return {**found, "decision": decision, "reason": choice.reason, "figure": round(choice.figure, 4)}
