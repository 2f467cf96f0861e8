"""`edgesparse profile`: latency and memory on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.gate import check_gate
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.environment import describe_environment
from edgesparse_runtime.profiling import profile as profile_model


def profile(
    model: Annotated[Path, typer.Argument(help="Bundle or .onnx file.", show_default=False)],
    precision: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads of one prediction. [all usable]")] = None,
    length: Annotated[int | None, typer.Option(help="Steps a window. [the longest training window]")] = None,
    batch: Annotated[int, typer.Option(help="Windows a call.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 3.0,
    fail_if: Annotated[str | None, typer.Option(help="Exit 3 when it holds: 'p99>5ms'.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure latency, load time and memory through the runner that an application uses.

    Example: edgesparse profile pump.edgesparse --threads 1 --fail-if 'p99>5ms'
    """
    result = profile_model(
        model, precision=precision, threads=threads, batch=batch, length=length, seconds=seconds
    )
    environment = describe_environment()
    if as_json:
        print_json("profile", {"profile": result.to_dict(), "environment": environment})
    else:
        print_fields(
            {
                "model": f"{result.model} ({result.precision}, {result.engine})",
                "machine": f"{environment['cpu']}, {result.threads} of {environment['cores']} cores",
                "input": f"{result.batch} window(s) of {result.length} steps, {result.calls} calls",
                "latency": f"p50 {result.p50:.2f} ms, p90 {result.p90:.2f}, p95 {result.p95:.2f}, "
                f"p99 {result.p99:.2f}, max {result.max:.2f}",
                "first inference": f"{result.first:.1f} ms",
                "load": f"{result.load:.0f} ms",
                "peak memory": f"{result.memory_peak:.0f} MB "
                f"({result.memory_peak - result.memory_before:.0f} MB above the bare runner)",
            }
        )
    if fail_if:
        check_gate(fail_if, {k: v for k, v in result.to_dict().items() if isinstance(v, (int, float))})
