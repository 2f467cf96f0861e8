"""`edgesparse run`: predictions for files, or for a live stream."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import ModelArgument, Precision, Threads, TrustedKeys
from edgesparse_runtime.cli.output import note, print_table
from edgesparse_runtime.cli.preflight import check_output, note_lengths, note_threads
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.cli.running.follow import FollowOptions, follow
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session

FORMS = ("table", "csv", "json")


@dataclass(frozen=True, kw_only=True)
class RunRequest(FollowOptions):
    """Arguments and options of `edgesparse run`."""

    bundle: ModelArgument
    files: Annotated[list[str], typer.Argument(help="Data files; labels are not needed.", show_default=False)]
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file. [stdout]")] = None
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv or json. [table, or by the ending of -o; streams: json]"),
    ] = None
    precision: Precision = "auto"
    threads: Threads = None
    require_signature: TrustedKeys = None
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False


def run(request: RunRequest) -> None:
    """Predict every series of one or more files, or score a live stream.

    Example: edgesparse run pump.edgesparse shift_1.csv shift_2.csv -o predictions.csv

    Example: sensor | edgesparse run pump.edgesparse - --follow --lateness 0.5 --deadline 20
    """
    form = "json" if request.as_json else request.form
    ending = "" if request.output is None else request.output.suffix[1:]
    if request.follow:
        session = _session(request)
        follow(
            session, request.files, request.output, form or ("csv" if ending == "csv" else "json"), request
        )
        return
    request.check_unused()
    if any(file == "-" or file.startswith(("mqtt:", "mqtts:")) for file in request.files):
        raise InputError("Standard input and brokers are streams. Add --follow.")
    form = form or (ending if ending in ("csv", "json") else "table")
    if form not in FORMS:
        raise InputError(f"`--format` must be one of {', '.join(FORMS)}; got {form}.")
    if request.output is not None:
        check_output(request.output)
    note_threads(request.threads)
    rows = _predict(_session(request), request)
    if form == "table" and request.output is None:
        _print(rows)
        return
    text = json.dumps({"schema": "edgesparse.run/1", "predictions": rows}, indent=2) + "\n"
    if form != "json":
        text = _csv(rows)
    if request.output is None:
        print(text, end="")
        return
    write_output(request.output, text)
    note(f"{len(rows)} predictions in {request.output}")


def _session(request: RunRequest) -> Session:
    keys = request.require_signature
    model = _signed(request.bundle, keys) if keys else request.bundle
    return Session(model, precision=request.precision, threads=request.threads)


def _predict(session: Session, request: RunRequest) -> list[dict[str, Any]]:
    """A row per series of every file; all are read first, so that a bad last file leaves no half output."""
    task = session.bundle.task if session.bundle else "classification"
    classes = session.bundle.classes if session.bundle else ()
    options = request.read_options(task)
    rows: list[dict[str, Any]] = []
    for file in request.files:
        data = read_dataset(file, options)
        for i, scores in enumerate(session.predict(data)):
            row: dict[str, Any] = {"file": file, "series": i + 1}
            if classes:
                best = int(scores.argmax())
                row |= {"decision": classes[best], "score": round(float(scores[best]), 6)}
                row["scores"] = {name: round(float(s), 6) for name, s in zip(classes, scores, strict=True)}
            else:
                row["scores"] = {f"output_{k}": float(s) for k, s in enumerate(scores)}
            rows.append(row)
        note_lengths(session, data)
    return rows


def _signed(path: Path, keys: list[Path]) -> Bundle:
    require("run --require-signature", "sign", "cryptography")
    if path.suffix == ".onnx":
        raise InputError(f"`--require-signature` needs a bundle; {path} cannot hold a signature.")
    return open_bundle(path, trusted_keys=keys)


def _print(rows: list[dict[str, Any]]) -> None:
    if rows and "decision" in rows[0]:
        body = [[r["file"], r["series"], r["decision"], f"{r['score']:.3f}"] for r in rows]
        print_table(["file", "series", "decision", "score"], body)
    else:
        names = list(rows[0]["scores"]) if rows else []
        body = [[r["file"], r["series"], *(f"{r['scores'][n]:.6g}" for n in names)] for r in rows]
        print_table(["file", "series", *names], body)


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    names = list(rows[0]["scores"]) if rows else []
    decided = [name for name in ("decision", "score") if rows and name in rows[0]]
    writer = csv.writer(stream, lineterminator="\n")
    prefix = "score_" if decided else ""
    writer.writerow(["file", "series", *decided, *(prefix + n for n in names)])
    for r in rows:
        writer.writerow([r["file"], r["series"], *(r[d] for d in decided), *(r["scores"][n] for n in names)])
    return stream.getvalue()
