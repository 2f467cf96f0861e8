"""`edgesparse profile`: latency, memory and where the time goes, on this machine or another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.cli.gate import check_gates, parse_gates
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import check_output, check_remote, note_threads
from edgesparse_runtime.errors import InputError, Interrupted
from edgesparse_runtime.measure.modules import doubt
from edgesparse_runtime.measure.report.output import FORMS, write_result
from edgesparse_runtime.measure.worker import Request, run_jobs
from edgesparse_runtime.remote.connection import Target, connect

MOST_ROWS = 12
FIGURES = (
    *("p50", "p90", "p95", "p99", "max", "mean", "first", "load", "memory_before", "memory_peak"),
    *("calls", "threads", "batch", "length"),
)


def profile(
    model: Annotated[Path, typer.Argument(help="Bundle or .onnx file.", show_default=False)],
    precision: Annotated[str, typer.Option(help="auto, float32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads of one prediction. [all usable]")] = None,
    length: Annotated[int | None, typer.Option(help="Steps a window. [that of the inputs]")] = None,
    batch: Annotated[int, typer.Option(help="Windows a call.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 3.0,
    data: Annotated[
        Path | None, typer.Option(help="Data file to take windows from. [the bundle's golden windows]")
    ] = None,
    modules: Annotated[bool, typer.Option(help="Show where the time goes, by PyTorch module.")] = True,
    sweep_threads: Annotated[str | None, typer.Option(help="Thread counts: 1,2,4.")] = None,
    sweep_batch: Annotated[str | None, typer.Option(help="Windows a call: 1,8.")] = None,
    sweep_length: Annotated[str | None, typer.Option(help="Steps a window: 500,1000,2000.")] = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="Windows a second to pace calls at; may be repeated.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Milliseconds for paced calls. [until the next is due]")
    ] = None,
    soak: Annotated[float | None, typer.Option(help="Minutes to run with changing lengths.")] = None,
    soak_runs: Annotated[int | None, typer.Option(help="The same, bounded by runs.")] = None,
    on: Annotated[str | None, typer.Option(help="Measure there: ssh://user@host:port.")] = None,
    remote_python: Annotated[str, typer.Option(help="Python to run there.")] = "python3",
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Folder of `edgesparse wheelhouse` to take along.")
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write NAME.html, NAME.json or NAME.trace.json; may be repeated."
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 3 when it holds: 'p99>5ms'; may be repeated. Figures: "
            f"{', '.join(FIGURES)}; missed with --rate, slope_mb with --soak."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure latency, load time and memory through the runner that an application uses.

    Example: edgesparse profile pump.edgesparse --threads 1 --fail-if 'p99>5ms' -o pump.html
    """
    for path in output or []:
        if not path.name.endswith(FORMS):
            raise InputError(f"`--output` must end in .html, .json or .trace.json; got {path.name}.")
        if path.name.endswith(".trace.json") and not modules:
            raise InputError("A Chrome trace must come from `--modules`. Leave out `--no-modules`.")
        check_output(path)
    has_soak = soak is not None or soak_runs is not None
    known = (*FIGURES, *(["missed"] if rate else []), *(["slope_mb"] if has_soak else []))
    gates = parse_gates(fail_if, known)
    check_remote(on, wheelhouse, remote_python)
    request = Request(
        model=str(model),
        precision=precision,
        threads=threads,
        batch=batch,
        length=length,
        seconds=seconds,
        data=None if data is None else str(data),
        modules=modules,
        rates=rate or [],
        deadline=deadline,
        soak_runs=soak_runs,
        soak_minutes=soak,
        sweep_threads=_numbers("threads", sweep_threads),
        sweep_batch=_numbers("batch", sweep_batch),
        sweep_length=_numbers("length", sweep_length),
    )
    try:
        if on is None:
            note_threads(threads)
            result = run_jobs(request)
        else:
            target = Target.parse(on, remote_python)
            with connect(target, model, data=data, wheelhouse=wheelhouse) as connection:
                result = run_jobs(request, connection.profile) | {"on": target.host}
    except KeyboardInterrupt:
        raise Interrupted("nothing was kept") from None
    if as_json:
        print_json("profile", {key: value for key, value in result.items() if key != "trace"})
    else:
        _print(result)
    # A figure that took minutes is on the screen before a full disk can lose it.
    for path in output or []:
        write_result(path, result)
        note(f"written: {path}")
    check_gates(gates, figures(result))


def figures(result: dict[str, Any]) -> dict[str, float]:
    """What `--fail-if` can bound."""
    found = {k: v for k, v in result["profile"].items() if isinstance(v, (int, float))}
    for paced in result.get("paced", []):
        # With several rates the worst one is bounded.
        found["missed"] = max(found.get("missed", 0.0), paced["missed_share"])
    if "soak" in result:
        found["slope_mb"] = result["soak"]["slope_mb"]
    return found


def _numbers(name: str, text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"`--sweep-{name}` must be numbers with commas between; got {text!r}.") from None


def _print(result: dict[str, Any]) -> None:
    p, environment, c = result["profile"], result["environment"], result["conditions"]
    where = f"{result['on']}: " if "on" in result else ""
    fields: dict[str, object] = {
        "model": f"{p['model']} ({p['precision']}, {p['engine']})",
        "attention": f"{'dense twin' if 'dense twin' in p['engine'] else 'as the model is'}; {p['why']}",
        "machine": where + f"{environment['cpu']}, {p['threads']} of {environment['cores']} cores",
        "input": f"{p['batch']} window(s) of {p['length']} steps, {p['calls']} calls, {p['inputs']}",
        "latency": f"p50 {p['p50']:.2f} ms, p90 {p['p90']:.2f}, p95 {p['p95']:.2f}, "
        f"p99 {p['p99']:.2f}, max {p['max']:.2f}",
        "first inference": f"{p['first']:.1f} ms",
        "load": f"{p['load']:.0f} ms",
        "peak memory": f"{p['memory_peak']:.0f} MB "
        f"({p['memory_peak'] - p['memory_before']:.0f} MB above the bare runner)",
    }
    if disturbed := disturbances(c):
        fields["disturbed"] = disturbed
    for q in result.get("paced", []):
        fields[f"at {q['rate']:g} a second"] = (
            f"{q['missed']} of {q['calls']} later than {q['deadline']:.4g} ms; p50 {q['p50']:.2f} ms, "
            f"p99 {q['p99']:.2f}, computing {q['busy']:.0%} of the time"
        )
    if soaked := result.get("soak"):
        fields["soak"] = (
            f"{soaked['runs']:,} runs of {soaked['lengths'][0]} to {soaked['lengths'][1]} steps: memory "
            f"moved by {soaked['slope_mb']:+.2f} MB [{soaked['slope_low']:+.2f}, {soaked['slope_high']:+.2f}]"
        )
    print_fields(fields)
    for name, points in result.get("sweep", {}).items():
        print()
        rows = [
            [q[name], f"{q['p50']:.2f}", f"{q['p99']:.2f}", f"{q['memory_peak'] - q['memory_before']:.0f}"]
            for q in points
        ]
        print_table([name, "p50 ms", "p99 ms", "model's MB"], rows)
    if modules := result.get("modules"):
        print()
        shown, rest = modules[:MOST_ROWS], modules[MOST_ROWS:]
        rows = [
            [
                m["name"],
                f"{m['milliseconds']:.3f}",
                f"{m['share']:.1%}",
                "" if m["density"] is None else f"{m['density']:.0%}",
            ]
            for m in shown
        ]
        if rest:
            spent, share = sum(m["milliseconds"] for m in rest), sum(m["share"] for m in rest)
            rows.append([f"{len(rest)} more", f"{spent:.3f}", f"{share:.1%}", ""])
        print_table(["module", "ms", "share", "density"], rows)
        if doubtful := doubt(modules, p["p50"]):
            print(f"note: {doubtful}")


def disturbances(conditions: dict[str, Any]) -> str:
    """What made the figures doubtful, in words; empty when nothing did."""
    found = []
    if conditions["quota_throttled"]:
        found.append(f"held back by the quota in {conditions['quota_throttled']} periods")
    if conditions["heat_throttled"]:
        found.append(f"slowed by heat {conditions['heat_throttled']} times")
    if (conditions["stolen"] or 0) > 0.01:
        found.append(f"{conditions['stolen']:.0%} of the time taken by the host")
    return ", ".join(found)
