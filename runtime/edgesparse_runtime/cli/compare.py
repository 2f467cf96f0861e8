"""`edgesparse compare`: two models, interleaved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.gate import check_gate
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.comparison import compare as compare_sessions
from edgesparse_runtime.environment import describe_environment
from edgesparse_runtime.session import Session


def compare(
    a: Annotated[Path, typer.Argument(help="Bundle or .onnx file A.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Bundle or .onnx file B.", show_default=False)],
    precision_a: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    precision_b: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of each.")] = 1,
    length: Annotated[int | None, typer.Option(help="Steps a window. [A's longest training window]")] = None,
    batch: Annotated[int, typer.Option(help="Windows a call.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 5.0,
    fail_if: Annotated[str | None, typer.Option(help="Exit 3 when it holds: 'ratio<1.5'.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Time two models call by call in turns: the ratio of medians with its 95 % interval.

    Example: edgesparse compare pump_dense.edgesparse pump.edgesparse --threads 1
    """
    first = Session(a, precision=precision_a, threads=threads)
    second = Session(b, precision=precision_b, threads=threads)
    result = compare_sessions(first, second, length=length, batch=batch, seconds=seconds)
    environment = describe_environment()
    if as_json:
        print_json(
            "compare",
            {"a": str(a), "b": str(b), "comparison": result.to_dict(), "environment": environment},
        )
    else:
        print_fields(
            {
                "A": f"{a} ({first.precision}, {result.a_engine}): "
                f"p50 {result.a_p50:.2f} ms, p99 {result.a_p99:.2f}",
                "B": f"{b} ({second.precision}, {result.b_engine}): "
                f"p50 {result.b_p50:.2f} ms, p99 {result.b_p99:.2f}",
                "B is": f"{result.ratio:.2f}x as fast as A [{result.low:.2f}, {result.high:.2f}]",
                "measured": f"{result.rounds} rounds in turns, {result.length} steps, "
                f"{result.threads} thread(s), {environment['cpu']}",
            }
        )
    if fail_if:
        check_gate(fail_if, {k: v for k, v in result.to_dict().items() if isinstance(v, (int, float))})
