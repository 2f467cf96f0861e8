"""`edgesparse report`: one page that a decision is taken on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.options import TableOptions
from edgesparse_runtime.cli.output import note, print_json
from edgesparse_runtime.cli.preflight import check_not_an_input, check_output, note_data
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import independent_groups
from edgesparse_runtime.machine.memory_bounds import check_spans
from edgesparse_runtime.measure.decision.answers import from_text, measure_answers
from edgesparse_runtime.measure.decision.facts import bundle_facts, poc_facts
from edgesparse_runtime.measure.decision.latency import time_bundles
from edgesparse_runtime.measure.decision.page import decision_page
from edgesparse_runtime.measure.decision.verdict import compare_right, mean_share
from edgesparse_runtime.measure.environment import describe_environment
from edgesparse_runtime.measure.report.words import LANGUAGES
from edgesparse_runtime.session import Session

RESULT, SCHEMA = "poc.json", "edgesparse.poc/1"


@dataclass(frozen=True, kw_only=True)
class ReportRequest(TableOptions):
    """Arguments and options of `edgesparse report`."""

    source: Annotated[
        Path, typer.Argument(help="Folder of `edgesparse poc`, or a bundle.", show_default=False)
    ]
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Page to write, NAME.html.")] = None
    data: Annotated[Path | None, typer.Option(help="Of a bundle: labeled series to measure it on.")] = None
    deadline: Annotated[
        float | None, typer.Option(help="Milliseconds allowed from a window to its answer. [100]")
    ] = None
    seconds: Annotated[float, typer.Option(help="Of a bundle: seconds to measure latency.")] = 2.0
    watts: Annotated[
        float | None,
        typer.Option(help="Watts of the machine at work, for energy where the processor does not count it."),
    ] = None
    lang: Annotated[str, typer.Option(help="Language of the page: en or ja.")] = "en"


def report(request: ReportRequest) -> None:
    """Write one page that a decision is taken on: for who decides, who runs the line, who made the models.

    Example: edgesparse report poc/pump -o pump.html --deadline 50
    """
    _check(request)
    facts = _poc(request) if _is_poc(request.source) else _bundle(request)
    if request.output is not None:
        write_output(request.output, decision_page(facts, request.lang))
        note(f"written: {request.output}")
    if request.as_json:
        print_json("report", facts)


def _check(request: ReportRequest) -> None:
    if request.lang not in LANGUAGES:
        raise InputError(f"`--lang` must be {' or '.join(LANGUAGES)}; got {request.lang}.")
    if request.output is None and not request.as_json:
        raise InputError("`report` needs a page to write. Add -o page.html, or --json.")
    check_spans({"--deadline": request.deadline, "--seconds": request.seconds, "--watts": request.watts})
    if request.output is not None:
        if request.output.suffix != ".html":
            raise InputError(f"`--output` must end in .html; got {request.output.name}.")
        check_output(request.output)
        inputs = [request.source, *([] if request.data is None else [request.data])]
        check_not_an_input(request.output, inputs)


def _is_poc(source: Path) -> bool:
    return source.name == RESULT or (source.is_dir() and (source / "cells").is_dir())


def _poc(request: ReportRequest) -> dict[str, Any]:
    path = request.source if request.source.name == RESULT else request.source / RESULT
    if request.data is not None:
        raise InputError("`--data` is for a bundle; a poc was measured on its own test series. Leave it out.")
    if not path.exists():
        raise InputError(f"{request.source} is not finished. Run the same `edgesparse poc` again.")
    try:
        result = json.loads(path.read_text("utf-8"))
        schema = result["schema"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged. Run the same `edgesparse poc` again.") from None
    if schema != SCHEMA:
        raise InputError(f"{path} must be of schema {SCHEMA}; got {schema}. Use the version that wrote it.")
    return poc_facts(result, request.deadline, request.watts)


def _bundle(request: ReportRequest) -> dict[str, Any]:
    bundle = open_bundle(request.source)
    if request.data is not None and not bundle.classes:
        raise InputError("`--data` measures decisions; this model has no classes. Use `edgesparse evaluate`.")
    sessions = {p: Session(bundle, precision=p, threads=1) for p in bundle.precisions}
    data = None if request.data is None else _read(request, bundle)
    latency = time_bundles(sessions, request.seconds) | {"environment": describe_environment()}
    rows = {p: _row(bundle, p, session, data, latency) for p, session in sessions.items()}
    source: dict[str, Any] = {"classes": list(bundle.classes), "path": None}
    if data is not None:
        source |= {"source": data.source, "path": str(request.data), "test_series": len(data)}
    facts = bundle_facts(bundle.path.name, rows, latency, request.deadline, source, request.watts)
    return facts | {"path": str(request.source)}


def _read(request: ReportRequest, bundle: Bundle) -> SeriesSet:
    assert request.data is not None
    data = read_for_model(request.data, bundle.manifest, request.read_options("classification"))
    note_data(data)
    return data


def _row(
    bundle: Bundle, precision: str, session: Session, data: SeriesSet | None, latency: dict[str, Any]
) -> dict[str, Any]:
    """As a poc has a model."""
    manifest, file = bundle.manifest, bundle.model_file(precision)
    compute = manifest.get("compute")
    row: dict[str, Any] = {
        "rung": "bundle",
        "precision": precision,
        "latency": latency["rows"][precision],
        "attention_share": None if compute is None else compute["attention_share"],
        "parameters": manifest.get("parameters"),
        "bytes": manifest["files"][file]["bytes"],
        "sha256": manifest["files"][file]["sha256"],
        "bundle": str(bundle.path),
    }
    if data is None:
        return row | {"accuracy": None, "noise_costs": None, "confusion": None, "unknown": None}
    answers = measure_answers(session, data)
    right, noisy = ({0: from_text(answers[key])} for key in ("right", "noisy"))
    clusters = independent_groups(data)
    return row | {
        "accuracy": mean_share(right, clusters).to_dict(),
        "noise_costs": compare_right(noisy, right, clusters).to_dict(),
        "confusion": np.asarray(answers["confusion"]).tolist(),
        "unknown": answers["unknown"],
    }
