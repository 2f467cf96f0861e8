"""`edgesparse evaluate`: a bundle on labeled data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.gate import check_gates, parse_gates
from edgesparse_runtime.cli.options import (
    Channels,
    GroupColumn,
    LabelColumn,
    SeriesColumn,
    Stride,
    Window,
    read_options,
)
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.evaluation.evaluate import STRENGTHS, Evaluation
from edgesparse_runtime.evaluation.evaluate import evaluate as evaluate_session
from edgesparse_runtime.evaluation.metrics import figure
from edgesparse_runtime.session import Session

# Accuracy lost to the weakest disturbance from which training on such windows is worth a word.
FRAGILE = 0.1
TRAINED_ON = ("noise", "missing stretch")


def hardening_hint(result: Evaluation) -> str:
    """What helps a classifier that a weak disturbance takes many points from; "" where none does."""
    lost = {
        name: result.metrics[0].value - rows[0][1].value
        for name, rows in result.robustness.items()
        if name in TRAINED_ON and rows[0][1].value < result.metrics[0].value - FRAGILE
    }
    if not lost:
        return ""
    worst = max(lost, key=lambda name: lost[name])
    return (
        f"{worst} of {STRENGTHS[0]:g} costs {100 * lost[worst]:.0f} points. If windows will come like that, "
        "train with --set training.augment=0.5."
    )


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle to evaluate.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="Labeled series.", show_default=False)],
    precision: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also under noise, gain, offset, lost data.")
    ] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 3 when it holds: 'accuracy<0.85'; may be repeated. Figures: accuracy, "
            "balanced_accuracy; of numbers mae, rmse."
        ),
    ] = None,
    label_column: LabelColumn = None,
    series_column: SeriesColumn = None,
    group_column: GroupColumn = None,
    channels: Channels = None,
    window: Window = None,
    stride: Stride = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure a bundle on labeled data: metric with n and 95 % interval.

    Example: edgesparse evaluate pump.edgesparse pump_TEST.csv --fail-if 'accuracy<0.85'
    """
    opened = open_bundle(bundle)
    gates = parse_gates(fail_if, ("accuracy", "balanced_accuracy") if opened.classes else ("mae", "rmse"))
    options = read_options(
        opened.task,
        label_column,
        series_column,
        group_column,
        channels,
        window,
        stride,
    )
    series = read_dataset(data, options)
    session = Session(opened, precision=precision)
    result = evaluate_session(session, series, robustness=robustness)
    if as_json:
        print_json(
            "evaluate",
            {"bundle": str(bundle), "data": str(data), "precision": session.precision, **result.to_dict()},
        )
    else:
        fields: dict[str, object] = {"precision": session.precision}
        print_fields(fields | {m.name: str(m) for m in result.metrics})
        if result.recall:
            print()
            print_table(
                ["class", "recall", "95 %", "n"],
                [
                    [name, f"{m.value:.2f}", f"[{m.low:.2f}, {m.high:.2f}]", m.n]
                    for name, m in result.recall.items()
                ],
            )
        if result.rivals:
            print()
            print_table(
                ["rival", *(m.name for m in result.metrics), "model's error over it"],
                [
                    [name, *map(str, rows), f"{result.metrics[0].value / rows[0].value:.2f}x"]
                    for name, rows in result.rivals.items()
                ],
            )
        if result.robustness:
            print()
            print_table(
                ["disturbed by", *(f"{s:g}" for s in STRENGTHS)],
                [
                    [name, *(figure(m.name, m.value) for _, m in rows)]
                    for name, rows in result.robustness.items()
                ],
            )
            if opened.classes and (hint := hardening_hint(result)):
                note(hint)
    check_gates(gates, {m.name: m.value for m in result.metrics})
