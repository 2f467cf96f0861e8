"""`edgesparse compare`: two models, interleaved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.gate import check_gates, parse_gates
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.cli.preflight import note_threads
from edgesparse_runtime.machine.memory_bounds import check_counts, check_spans
from edgesparse_runtime.measure.compare import Comparison
from edgesparse_runtime.measure.compare import compare as compare_sessions
from edgesparse_runtime.measure.environment import describe_environment
from edgesparse_runtime.session import Session

FIGURES = (
    *("ratio", "low", "high", "rounds", "a_p50", "a_p99", "b_p50", "b_p99"),
    *("equal", "compared", "largest_difference", "cosine"),
)


def compare(
    a: Annotated[Path, typer.Argument(help="Bundle or .onnx file A.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Bundle or .onnx file B.", show_default=False)],
    precision_a: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    precision_b: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    engine_a: Annotated[str, typer.Option(help="auto, native or body (the ONNX function).")] = "auto",
    engine_b: Annotated[str, typer.Option(help="auto, native or body (the ONNX function).")] = "auto",
    attention_a: Annotated[
        str, typer.Option(help="auto (as measured by `breakeven`), sparse or dense (its twin).")
    ] = "auto",
    attention_b: Annotated[str, typer.Option(help="auto, sparse or dense.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of each.")] = 1,
    length: Annotated[int | None, typer.Option(help="Steps a window. [that of the inputs]")] = None,
    batch: Annotated[int, typer.Option(help="Windows a call.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 5.0,
    data: Annotated[
        Path | None, typer.Option(help="Data file to take windows from. [golden windows, else random walks]")
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 3 when it holds: 'ratio<1.5', 'equal<99%'; may be repeated. "
            f"Figures: {', '.join(FIGURES)}."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Time two models call by call in turns: the ratio of medians with its interval, and equal decisions.

    Example: edgesparse compare pump_dense.edgesparse pump.edgesparse --threads 1
    """
    gates = parse_gates(fail_if, FIGURES)
    check_counts({"--batch": batch, "--length": length, "--threads": threads})
    check_spans({"--seconds": seconds})
    note_threads(threads)
    first = Session(a, precision=precision_a, threads=threads, engine=engine_a, attention=attention_a)
    second = Session(b, precision=precision_b, threads=threads, engine=engine_b, attention=attention_b)
    result = compare_sessions(first, second, length=length, batch=batch, seconds=seconds, data=data)
    environment = describe_environment()
    if as_json:
        precisions = {"precision_a": first.precision, "precision_b": second.precision}
        print_json(
            "compare",
            {
                "a": str(a),
                "b": str(b),
                **precisions,
                "comparison": result.to_dict(),
                "environment": environment,
            },
        )
    else:
        print_fields(
            {
                "A": f"{a} ({first.precision}, {result.a_engine}): "
                f"p50 {result.a_p50:.2f} ms, p99 {result.a_p99:.2f}",
                "B": f"{b} ({second.precision}, {result.b_engine}): "
                f"p50 {result.b_p50:.2f} ms, p99 {result.b_p99:.2f}",
                "B is": f"{result.ratio:.2f}x as fast as A [{result.low:.2f}, {result.high:.2f}]",
                "answers": _answers(result),
                "measured": f"{result.rounds} rounds in turns, {result.batch} window(s) of {result.length} "
                f"steps, {result.inputs}, {result.threads} thread(s), {environment['cpu']}",
            }
        )
    measured = result.to_dict()
    check_gates(gates, {name: measured[name] for name in FIGURES if measured[name] is not None})


def _answers(result: Comparison) -> str:
    if result.largest_difference is None:
        return "not comparable: the scores have different shapes"
    if result.cosine is not None:
        return (
            f"cosine {result.cosine:.4f}, largest difference {result.largest_difference:.2g} "
            f"(n={result.compared})"
        )
    moved = f"largest score difference {result.largest_difference:.2g} (n={result.compared})"
    return moved if result.equal is None else f"{result.equal:.1%} of decisions equal, {moved}"
