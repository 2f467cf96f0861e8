"""`edgesparse run`: predictions for files, or for a live stream."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.atomic import replace_text
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import (
    Channels,
    GroupColumn,
    LabelColumn,
    SeriesColumn,
    Stride,
    Window,
    read_options,
)
from edgesparse_runtime.cli.output import note, print_table
from edgesparse_runtime.cli.preflight import check_output, note_lengths, note_threads
from edgesparse_runtime.cli.require import require
from edgesparse_runtime.cli.running.follow import (
    Deadline,
    Follow,
    FollowOptions,
    Lateness,
    MaxGap,
    Period,
    TimeColumn,
    TimeUnit,
    WaitingLines,
    WholeWindows,
    follow,
)
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.live import BACKLOG


def run(
    bundle: Annotated[Path, typer.Argument(help="Bundle or .onnx file.", show_default=False)],
    files: Annotated[
        list[str], typer.Argument(help="Data files; labels are not needed.", show_default=False)
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here. [stdout]")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv or json. [table, or by the ending of -o; a stream: json]"),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads of one prediction. [all usable]")] = None,
    label_column: LabelColumn = None,
    series_column: SeriesColumn = None,
    group_column: GroupColumn = None,
    channels: Channels = None,
    window: Window = None,
    stride: Stride = None,
    is_followed: Follow = False,
    period: Period = None,
    lateness: Lateness = 0.0,
    max_gap: MaxGap = None,
    deadline: Deadline = None,
    backlog: WaitingLines = BACKLOG,
    time_column: TimeColumn = None,
    time_unit: TimeUnit = "s",
    whole_windows: WholeWindows = False,
    require_signature: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) that must have signed the bundle; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Predict every series of one or more files, or score a live stream.

    Example: edgesparse run pump.edgesparse shift_1.csv shift_2.csv -o predictions.csv

    Example: sensor | edgesparse run pump.edgesparse - --follow --lateness 0.5 --deadline 20
    """
    form = "json" if as_json else form
    model = _signed(bundle, require_signature) if require_signature else bundle
    if is_followed:
        ending = output.suffix[1:] if output is not None else ""
        options = FollowOptions(
            window,
            stride,
            period,
            lateness,
            max_gap,
            deadline,
            backlog,
            time_column,
            time_unit,
            whole_windows,
        )
        session = Session(model, precision=precision, threads=threads)
        follow(session, files, output, form or ("csv" if ending == "csv" else "json"), options)
        return
    unused = {
        "--period": period is not None,
        "--lateness": lateness != 0.0,
        "--max-gap": max_gap is not None,
        "--deadline": deadline is not None,
        "--backlog": backlog != BACKLOG,
        "--time-column": time_column is not None,
        "--time-unit": time_unit != "s",
        "--whole-windows": whole_windows,
    }
    if given := [name for name, is_given in unused.items() if is_given]:
        raise InputError(f"`{given[0]}` is for streams. Add --follow.")
    if any(file == "-" or file.startswith(("mqtt:", "mqtts:")) for file in files):
        raise InputError("Standard input and brokers are streams. Add --follow.")
    if form is None:
        form = output.suffix[1:] if output is not None and output.suffix in (".csv", ".json") else "table"
    if form not in ("table", "csv", "json"):
        raise InputError(f"`--format` must be table, csv or json; got {form}.")
    if output is not None:
        check_output(output)
    note_threads(threads)
    session = Session(model, precision=precision, threads=threads)
    task = session.bundle.task if session.bundle else "classification"
    readers = read_options(task, label_column, series_column, group_column, channels, window, stride)
    classes = session.bundle.classes if session.bundle else ()
    rows: list[dict[str, Any]] = []
    # Every file is read before the first result is written: a bad last file must not leave half an output.
    for file in files:
        data = read_dataset(file, readers)
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
    if form == "table" and output is None:
        _print(rows)
        return
    text = json.dumps({"schema": "edgesparse.run/1", "predictions": rows}, indent=2) + "\n"
    if form != "json":
        text = _csv(rows)
    if output is None:
        print(text, end="")
        return
    replace_text(output, text)
    note(f"{len(rows)} predictions in {output}")


def _signed(path: Path, keys: list[Path]) -> Bundle:
    require("run --require-signature", "sign", "cryptography")
    if path.suffix == ".onnx":
        raise InputError(
            f"`--require-signature` must come with a bundle; {path} has no place for a signature."
        )
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
