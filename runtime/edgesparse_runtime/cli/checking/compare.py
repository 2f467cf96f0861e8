"""`edgesparse compare`: two models, interleaved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.gate import check_gates, parse_gates
from edgesparse_runtime.cli.options import Batch, Length, Precision, Request
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
Engine = Annotated[str, typer.Option(help="auto, native or body (the ONNX function).")]


@dataclass(frozen=True, kw_only=True)
class CompareRequest(Request):
    """Arguments and options of `edgesparse compare`."""

    a: Annotated[Path, typer.Argument(help="Bundle or .onnx file A.", show_default=False)]
    b: Annotated[Path, typer.Argument(help="Bundle or .onnx file B.", show_default=False)]
    precision_a: Precision = "auto"
    precision_b: Precision = "auto"
    engine_a: Engine = "auto"
    engine_b: Engine = "auto"
    attention_a: Annotated[
        str, typer.Option(help="auto (as measured by `breakeven`), sparse or dense (the dense twin).")
    ] = "auto"
    attention_b: Annotated[str, typer.Option(help="auto, sparse or dense.")] = "auto"
    threads: Annotated[int, typer.Option(help="Threads of each model.")] = 1
    length: Length = None
    batch: Batch = 1
    seconds: Annotated[float, typer.Option(help="Seconds to measure.")] = 5.0
    data: Annotated[
        Path | None, typer.Option(help="Data file to take windows from. [golden windows, else random walks]")
    ] = None
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 3 when this holds: 'ratio<1.5', 'equal<99%'; may be repeated. "
            f"Figures: {', '.join(FIGURES)}."
        ),
    ] = None


def compare(request: CompareRequest) -> None:
    """Time two models with interleaved calls: ratio of medians with its interval, and equal decisions.

    Example: edgesparse compare pump_dense.edgesparse pump.edgesparse --threads 1
    """
    gates = parse_gates(request.fail_if, FIGURES)
    threads = request.threads
    check_counts({"--batch": request.batch, "--length": request.length, "--threads": threads})
    check_spans({"--seconds": request.seconds})
    note_threads(threads)
    first = Session(
        request.a,
        precision=request.precision_a,
        threads=threads,
        engine=request.engine_a,
        attention=request.attention_a,
    )
    second = Session(
        request.b,
        precision=request.precision_b,
        threads=threads,
        engine=request.engine_b,
        attention=request.attention_b,
    )
    result = compare_sessions(
        first,
        second,
        length=request.length,
        batch=request.batch,
        seconds=request.seconds,
        data=request.data,
    )
    _print(request, first.precision, second.precision, result)
    measured = result.to_dict()
    check_gates(gates, {name: measured[name] for name in FIGURES if measured[name] is not None})


def _print(request: CompareRequest, precision_a: str, precision_b: str, result: Comparison) -> None:
    environment = describe_environment()
    if request.as_json:
        facts = {"a": str(request.a), "b": str(request.b)}
        facts |= {"precision_a": precision_a, "precision_b": precision_b}
        print_json("compare", {**facts, "comparison": result.to_dict(), "environment": environment})
        return
    print_fields(
        {
            "A": f"{request.a} ({precision_a}, {result.a_engine}): "
            f"p50 {result.a_p50:.2f} ms, p99 {result.a_p99:.2f}",
            "B": f"{request.b} ({precision_b}, {result.b_engine}): "
            f"p50 {result.b_p50:.2f} ms, p99 {result.b_p99:.2f}",
            "speed of B": f"{result.ratio:.2f}x that of A [{result.low:.2f}, {result.high:.2f}]",
            "outputs": _outputs(result),
            "measured": f"{result.rounds} interleaved rounds, {result.batch} window(s) of {result.length} "
            f"steps, {result.inputs}, {result.threads} thread(s), {environment['cpu']}",
        }
    )


def _outputs(result: Comparison) -> str:
    if result.largest_difference is None:
        return "not comparable: the scores have different shapes"
    if result.cosine is not None:
        return (
            f"cosine {result.cosine:.4f}, largest difference {result.largest_difference:.2g} "
            f"(n={result.compared})"
        )
    moved = f"largest score difference {result.largest_difference:.2g} (n={result.compared})"
    return moved if result.equal is None else f"{result.equal:.1%} of decisions equal, {moved}"
