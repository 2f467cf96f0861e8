"""`edgesparse explain`: what a decision rests on, and how far to believe that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.checking.explain_text import print_set, print_window
from edgesparse_runtime.cli.options import BundleArgument, Precision, TableOptions
from edgesparse_runtime.cli.output import note, print_json
from edgesparse_runtime.cli.preflight import check_not_an_input, check_output, note_data, note_lengths
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.explain.whole_set import MOST_WINDOWS, chosen_rows, explain_set
from edgesparse_runtime.explain.window import Explainer
from edgesparse_runtime.machine.progress import progress
from edgesparse_runtime.session import Session

LANGUAGES = ("en", "ja")


@dataclass(frozen=True, kw_only=True)
class ExplainRequest(TableOptions):
    """Arguments and options of `edgesparse explain`."""

    bundle: BundleArgument
    data: Annotated[Path, typer.Argument(help="Series, labeled or not.", show_default=False)]
    index: Annotated[
        int | None, typer.Option(help="Explain this window, counted from 0. [the set as a whole]")
    ] = None
    against: Annotated[
        str | None, typer.Option(help="Class to compare the predicted one with. [the next likely one]")
    ] = None
    most: Annotated[int, typer.Option(help="Windows of a set to explain, taken evenly.")] = MOST_WINDOWS
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page to write: .html, without script, offline.")
    ] = None
    lang: Annotated[str, typer.Option(help="Language of the page: en or ja.")] = "en"
    check: Annotated[
        bool, typer.Option("--check", help="Exit 3 when the map of influence cannot be relied on.")
    ] = False
    attention: Annotated[
        str, typer.Option(help="auto, or sparse = never the dense twin, whose routing cannot be shown.")
    ] = "auto"
    precision: Precision = "auto"


def explain(request: ExplainRequest) -> None:
    """Show what was attended to and why, what moved the score, and how far to believe it.

    Example: edgesparse explain pump.edgesparse pump_TEST.csv --index 3 -o window.html

    Example: edgesparse explain pump.edgesparse pump_TEST.csv --check
    """
    _check(request)
    bundle = open_bundle(request.bundle)
    session = Session(bundle, precision=request.precision, attention=request.attention)
    explainer = Explainer(session, against=request.against)
    data = _read(request, bundle.manifest, bundle.task)
    note_lengths(session, data)
    facts = {
        "bundle": str(request.bundle),
        "data": str(request.data),
        "precision": session.precision,
        "engine": session.engine,
    }
    if request.index is None:
        result, reliable = _explain_set(explainer, data, facts, request)
    else:
        result, reliable = _explain_window(explainer, data, facts, request)
    if request.as_json:
        print_json("explain", result)
    if request.check and not reliable:
        raise GateError("gate failed: the map of influence is no better than a random one.")


def _check(request: ExplainRequest) -> None:
    if request.lang not in LANGUAGES:
        raise InputError(f"`--lang` must be {' or '.join(LANGUAGES)}; got {request.lang}.")
    if request.most < 1:
        raise InputError(f"`--most` must be at least 1; got {request.most}.")
    if request.output is not None:
        if request.output.suffix != ".html":
            raise InputError(f"`--output` must end in .html; got {request.output.name}.")
        check_output(request.output)
        check_not_an_input(request.output, [request.bundle, request.data])


def _read(request: ExplainRequest, manifest: Any, task: str) -> SeriesSet:
    data = read_for_model(request.data, manifest, request.read_options(task), needs_labels=False)
    note_data(data)
    if request.index is not None and not 0 <= request.index < len(data):
        raise InputError(
            f"`--index` must be 0 to {len(data) - 1}; got {request.index}. "
            f"{request.data} has {len(data)} windows."
        )
    return data


def _explain_window(
    explainer: Explainer, data: SeriesSet, facts: dict[str, Any], request: ExplainRequest
) -> tuple[dict[str, Any], bool]:
    assert request.index is not None
    row = data.take([request.index])
    facts = {
        **facts,
        "index": request.index,
        "id": None if row.ids is None else str(row.ids[0]),
        "start": None if row.starts is None else str(row.starts[0]),
        "label": None if row.labels is None else str(row.labels[0]),
    }
    found = explainer.explain(explainer.session.prepare(row)[0], facts)
    result = found.to_dict()
    if request.output is not None:
        from edgesparse_runtime.explain.page.window import window_page

        write_output(request.output, window_page(result, found.window, request.lang))
    if not request.as_json:
        print_window(result)
    return result, found.holds


def _explain_set(
    explainer: Explainer, data: SeriesSet, facts: dict[str, Any], request: ExplainRequest
) -> tuple[dict[str, Any], bool]:
    rows = chosen_rows(len(data), request.most)
    if len(rows) < len(data):
        note(
            f"{request.data}: {len(rows)} of {len(data)} windows are explained, taken evenly. "
            "Change it with --most."
        )
    with progress("explain", len(rows)) as bar:
        found = explain_set(explainer, data, most=request.most, advance=bar.advance)
    result = {**facts, **found.to_dict()}
    if request.output is not None:
        from edgesparse_runtime.explain.page.whole_set import set_page

        write_output(request.output, set_page(result, request.lang))
    if not request.as_json:
        print_set(result)
    return result, found.holds
