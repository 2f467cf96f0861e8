"""`edgesparse run`: predictions for files, or for a live stream."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import ModelArgument, Precision, Threads, TrustedKeys
from edgesparse_runtime.cli.output import note, print_table
from edgesparse_runtime.cli.preflight import (
    check_not_an_input,
    check_output,
    note_data,
    note_lengths,
    note_threads,
)
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.cli.running.follow import FollowOptions, follow
from edgesparse_runtime.cli.running.run_generation import MAX_TOKENS, run_prompts
from edgesparse_runtime.cli.running.run_text import run_texts, takes_text
from edgesparse_runtime.data.escape import escape_csv_row
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.sensors.input_check import check_input
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.data.tensors.generation import can_generate
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.operation.rollout.followed import FollowedSession
from edgesparse_runtime.operation.rollout.store import LINK, is_store
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.live import BROKERS, SERVERS

FORMS = ("table", "csv", "json")
# What a row has besides its series, where the file has it.
ORIGIN = ("group", "recording", "start")


@dataclass(frozen=True, kw_only=True)
class RunRequest(FollowOptions):
    """Arguments and options of `edgesparse run`."""

    bundle: ModelArgument
    files: Annotated[
        list[str],
        typer.Argument(
            help="Data files; labels are not needed. Text models: .txt, one text per line, or .jsonl.",
            show_default=False,
        ),
    ]
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file. [stdout]")] = None
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv or json. [table, or by the ending of -o; streams: json]"),
    ] = None
    prompt: Annotated[
        str | None, typer.Option(help="Text models: name of the prompt to put before each text.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(help="Language models: most tokens to write after each prompt. [64]")
    ] = None
    precision: Precision = "auto"
    threads: Threads = None
    require_signature: TrustedKeys = None
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False


def run(request: RunRequest) -> None:
    """Predict every series of one or more files, or score a live stream.

    Exit 3 when a sensor looks dead in any window of a file; all predictions are written first.

    Example: edgesparse run pump.edgesparse shift_1.csv shift_2.csv -o predictions.csv

    Example: edgesparse run minilm.edgesparse pages.txt -o embeddings.json

    Example: edgesparse run smollm.edgesparse prompts.txt --max-tokens 100

    Example: sensor | edgesparse run pump.edgesparse - --follow --lateness 0.5 --deadline 20
    """
    form = "json" if request.as_json else request.form
    ending = "" if request.output is None else request.output.suffix[1:]
    if request.follow:
        session = _session(request)
        if takes_text(session) or can_generate(session.bundle):
            raise InputError("`--follow` is for windows of samples; this model takes text. Leave it out.")
        follow(
            session, request.files, request.output, form or ("csv" if ending == "csv" else "json"), request
        )
        return
    request.check_unused()
    if any(file == "-" or file.startswith((*BROKERS, *SERVERS)) for file in request.files):
        raise InputError("Standard input, brokers and OPC UA servers are streams. Add --follow.")
    form = form or (ending if ending in ("csv", "json") else "table")
    if form not in FORMS:
        raise InputError(f"`--format` must be one of {', '.join(FORMS)}; got {form}.")
    if request.output is not None:
        check_output(request.output)
        check_not_an_input(request.output, [request.bundle, *map(Path, request.files)])
    note_threads(request.threads)
    session = _session(request)
    if can_generate(session.bundle):
        if request.prompt is not None:
            raise InputError("`--prompt` is for models that embed text; this one writes text. Leave it out.")
        tokens = MAX_TOKENS if request.max_tokens is None else request.max_tokens
        run_prompts(session, request.files, form, request.output, tokens)
        return
    if request.max_tokens is not None:
        raise InputError("`--max-tokens` is for language models; this one is none. Leave it out.")
    if takes_text(session):
        run_texts(session, request.files, form, request.output, request.prompt)
        return
    if request.prompt is not None:
        raise InputError("`--prompt` is for models that take text; this one does not. Leave it out.")
    rows = _predict(session, request)
    _write(rows, form, request.output)
    if count := sum(row.get("unknown", False) for row in rows):
        note(f"{count} of {len(rows)} windows are unlike all training windows; see `unknown`")
    if faulty := [row for row in rows if row["faults"]]:
        raise GateError(
            f"{len(faulty)} of {len(rows)} windows look as if a sensor were at fault (the first: "
            f"{', '.join(faulty[0]['faults'])}); see `faults` before trusting their decisions."
        )


def _write(rows: list[dict[str, Any]], form: str, output: Path | None) -> None:
    if form == "table" and output is None:
        _print(rows)
        return
    text = json.dumps({"schema": "edgesparse.run/1", "predictions": rows}, indent=2) + "\n"
    if form != "json":
        text = _csv(rows)
    if output is None:
        print(text, end="")
        return
    write_output(output, text)
    note(f"{len(rows)} predictions in {output}")


def _session(request: RunRequest) -> Session:
    keys = request.require_signature
    if request.follow and not keys and is_store(request.bundle):
        return FollowedSession(request.bundle, precision=request.precision, threads=request.threads)
    place = request.bundle / LINK if is_store(request.bundle) else request.bundle
    model = _signed(place, keys) if keys else place
    return Session(model, precision=request.precision, threads=request.threads)


def _predict(session: Session, request: RunRequest) -> list[dict[str, Any]]:
    """A row per series of every file; all are read first, so that a bad last file leaves no half output."""
    task = session.bundle.task if session.bundle else "classification"
    classes = session.classes
    manifest: Mapping[str, Any] = session.bundle.manifest if session.bundle else {}
    options = request.read_options(task)
    rows: list[dict[str, Any]] = []
    for file in request.files:
        data = read_for_model(file, manifest, options, needs_labels=False)
        faults = check_input(session, data) if not session.takes_tensors else []
        found, unknown = session.predict_with_unknown(data)
        for i, scores in enumerate(found):
            row = _origin(file, data, i)
            if classes:
                best = int(scores.argmax())
                row |= {"decision": classes[best], "score": round(float(scores[best]), 6)}
                row["scores"] = {name: round(float(s), 6) for name, s in zip(classes, scores, strict=True)}
            else:
                row["scores"] = {f"output_{k}": float(s) for k, s in enumerate(scores)}
            row["faults"] = [str(fault) for fault in faults[i]]
            if unknown is not None:
                row |= {"unknown": bool(unknown[i] > 1), "unknown_score": round(float(unknown[i]), 4)}
            rows.append(row)
        note_data(data)
        note_lengths(session, data)
    return rows


def _origin(file: str, data: SeriesSet, i: int) -> dict[str, Any]:
    """Where a prediction comes from: file, series as the file names it, and what else the file states.

    A series without a name has its number, whatever the number of windows that it is cut into.
    """
    number = i + 1 if data.recordings is None else int(data.recordings[i])
    row: dict[str, Any] = {"file": file, "series": number if data.ids is None else str(data.ids[i])}
    for name in ORIGIN:
        column = getattr(data, f"{name}s")
        if column is not None and (name != "recording" or data.grid.window is not None):
            row[name] = str(column[i])
    return row


def _signed(path: Path, keys: list[Path]) -> Bundle:
    require("run --require-signature", "sign", "cryptography")
    if path.suffix == ".onnx":
        raise InputError(f"`--require-signature` needs a bundle; {path} cannot hold a signature.")
    return open_bundle(path, trusted_keys=keys)


def _print(rows: list[dict[str, Any]]) -> None:
    names = list(rows[0]["scores"]) if rows else []
    origin = ["file", "series", *_present(rows)]
    faults = ["faults"] if any(row["faults"] for row in rows) else []
    if any(row.get("unknown") for row in rows):
        faults.append("unknown")
    if rows and "decision" in rows[0]:
        body = [[*_cells(r, origin), r["decision"], f"{r['score']:.3f}", *_cells(r, faults)] for r in rows]
        print_table([*origin, "decision", "score", *faults], body)
    else:
        body = [
            [*_cells(r, origin), *(f"{r['scores'][n]:.6g}" for n in names), *_cells(r, faults)] for r in rows
        ]
        print_table([*origin, *names, *faults], body)


def _present(rows: list[dict[str, Any]]) -> list[str]:
    return [name for name in ORIGIN if any(name in row for row in rows)]


def _cells(row: dict[str, Any], names: list[str]) -> list[object]:
    cells = (row.get(name, "") for name in names)
    # As JSON writes it, in a table and a CSV file too.
    return [
        "; ".join(c) if isinstance(c, list) else str(c).lower() if isinstance(c, bool) else c for c in cells
    ]


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    names = list(rows[0]["scores"]) if rows else []
    decided = [name for name in ("decision", "score") if rows and name in rows[0]]
    writer = csv.writer(stream, lineterminator="\n")
    prefix = "score_" if decided else ""
    # New columns come last: what reads the first ones by position still does.
    unknown = [name for name in ("unknown", "unknown_score") if rows and name in rows[0]]
    origin = [*_present(rows), "faults", *unknown]
    writer.writerow(escape_csv_row(["file", "series", *decided, *(prefix + n for n in names), *origin]))
    for r in rows:
        scores = (r["scores"][n] for n in names)
        decisions = (r[d] for d in decided)
        writer.writerow(escape_csv_row([r["file"], r["series"], *decisions, *scores, *_cells(r, origin)]))
    return stream.getvalue()
