"""`edgesparse evaluate`: a bundle on labeled data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.gate import check_gates, parse_gates
from edgesparse_runtime.cli.options import BundleArgument, Precision, TableOptions
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import note_data
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import STRENGTHS, Evaluation
from edgesparse_runtime.evaluation.evaluate import evaluate as evaluate_session
from edgesparse_runtime.evaluation.metrics import figure, interval_text
from edgesparse_runtime.evaluation.unknown import UnknownEvaluation, evaluate_unknown
from edgesparse_runtime.session import Session

# Accuracy lost to the weakest disturbance, from which on data augmentation is recommended.
FRAGILE = 0.1
TRAINED_ON = ("noise", "missing stretch")


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(TableOptions):
    """Arguments and options of `edgesparse evaluate`."""

    bundle: BundleArgument
    data: Annotated[Path, typer.Argument(help="Labeled series.", show_default=False)]
    precision: Precision = "auto"
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Repeat under noise, gain, offset and lost data.")
    ] = False
    unknown: Annotated[
        Path | None, typer.Option(help="Windows that are none of the classes: another machine, a new fault.")
    ] = None
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 3 when this holds: 'accuracy<0.85'; may be repeated. Figures: accuracy, "
            "balanced_accuracy; for numbers mae, rmse."
        ),
    ] = None


def evaluate(request: EvaluateRequest) -> None:
    """Measure a bundle on labeled data: metric with n and 95 % interval.

    Example: edgesparse evaluate pump.edgesparse pump_TEST.csv --fail-if 'accuracy<0.85'

    Example: edgesparse evaluate pump.edgesparse pump_TEST.csv --unknown other_pump.csv
    """
    opened = open_bundle(request.bundle)
    known = ("accuracy", "balanced_accuracy") if opened.classes else ("mae", "rmse")
    gates = parse_gates(request.fail_if, known)
    series = read_for_model(request.data, opened.manifest, request.read_options(opened.task))
    note_data(series)
    session = Session(opened, precision=request.precision)
    result = evaluate_session(session, series, robustness=request.robustness)
    told = _evaluate_unknown(session, series, request)
    if request.as_json:
        facts = {"bundle": str(request.bundle), "data": str(request.data), "precision": session.precision}
        facts["sha256"] = opened.manifest["files"][opened.model_file(session.precision)]["sha256"]
        unknown = None if told is None else told.to_dict()
        print_json("evaluate", {**facts, **result.to_dict(), "unknown": unknown})
    else:
        print_fields({"precision": session.precision} | {m.name: str(m) for m in result.metrics})
        _print_tables(result)
        if told is not None:
            _print_unknown(told)
        if result.robustness and opened.classes and (hint := hardening_hint(result)):
            note(hint)
    check_gates(gates, {m.name: m.value for m in result.metrics})


def _evaluate_unknown(
    session: Session, series: SeriesSet, request: EvaluateRequest
) -> UnknownEvaluation | None:
    if session.unknown_threshold is None:
        if request.unknown is not None:
            raise InputError(
                f"`--unknown` needs a model that tells unknown windows; {request.bundle} does not. Train it "
                "again with --model small, or --model full with --set model.stem=2."
            )
        return None
    given = None
    if request.unknown is not None:
        assert session.bundle is not None
        options = request.read_options(session.bundle.task)
        given = read_for_model(request.unknown, session.bundle.manifest, options, needs_labels=False)
        note_data(given)
    return evaluate_unknown(session, series, given)


def _print_unknown(told: UnknownEvaluation) -> None:
    print(f"\ncalled unknown: {told.refused:.1%} of these {told.n:,} windows")
    print_table(
        ["unlike them", "AUROC", "found at 95 % kept", "called unknown", "n"],
        [
            [name, f"{t.auroc:.3f}", f"{t.caught:.2f}", f"{t.unknown:.2f}", t.n]
            for name, t in told.kinds.items()
        ],
    )


def _print_tables(result: Evaluation) -> None:
    if result.recall:
        print()
        print_table(
            ["class", "recall", "95 %", "n"],
            [[name, f"{m.value:.2f}", interval_text(m), m.n] for name, m in result.recall.items()],
        )
    if result.groups:
        print()
        name = result.metrics[0].name
        print_table(
            ["group", name, "95 %", "n"],
            [[group, figure(name, m.value), interval_text(m), m.n] for group, m in result.groups.items()],
        )
        worst = next(iter(result.groups))
        print(f"worst: {worst}, {figure(name, result.groups[worst].value)}")
    if result.rivals:
        print()
        print_table(
            ["baseline", *(m.name for m in result.metrics), "model's error relative to it"],
            [
                [name, *map(str, rows), f"{result.metrics[0].value / rows[0].value:.2f}x"]
                for name, rows in result.rivals.items()
            ],
        )
    if result.robustness:
        print()
        print_table(
            ["disturbance", *(f"{s:g}" for s in STRENGTHS)],
            [[name, *(figure(m.name, m.value) for _, m in rows)] for name, rows in result.robustness.items()],
        )


def hardening_hint(result: Evaluation) -> str:
    """What helps a classifier that a weak disturbance costs many points; "" where none does."""
    lost = {
        name: result.metrics[0].value - rows[0][1].value
        for name, rows in result.robustness.items()
        if name in TRAINED_ON and rows[0][1].value < result.metrics[0].value - FRAGILE
    }
    if not lost:
        return ""
    worst = max(lost, key=lambda name: lost[name])
    return (
        f"{worst} of {STRENGTHS[0]:g} costs {100 * lost[worst]:.0f} points. If such windows are to be "
        "expected, train with --set training.augment=0.5."
    )
