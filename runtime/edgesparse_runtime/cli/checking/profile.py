"""`edgesparse profile`: latency, memory and where the time goes, on this machine or another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from edgesparse_runtime.cli.gate import check_gates, parse_gates
from edgesparse_runtime.cli.options import (
    Batch,
    Length,
    ModelArgument,
    Precision,
    RemoteOptions,
    Spec,
    Threads,
    Windows,
)
from edgesparse_runtime.cli.output import note, print_fields, print_json, print_table
from edgesparse_runtime.cli.preflight import check_output, note_threads
from edgesparse_runtime.data.readers.spec import read_spec
from edgesparse_runtime.deploying.remote.connection import Target, connect
from edgesparse_runtime.errors import InputError, Interrupted
from edgesparse_runtime.machine.throttling import Conditions
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.modules import Module, doubt
from edgesparse_runtime.measure.report.output import check_form, write_result
from edgesparse_runtime.measure.results import Profile, ProfileResult
from edgesparse_runtime.measure.worker import run_jobs

MOST_ROWS = 12
FIGURES = (
    *("p50", "p90", "p95", "p99", "max", "mean", "first", "load", "memory_before", "memory_peak"),
    *("calls", "threads", "batch", "length"),
)


@dataclass(frozen=True, kw_only=True)
class ProfileRequest(RemoteOptions):
    """Arguments and options of `edgesparse profile`."""

    model: ModelArgument
    precision: Precision = "auto"
    threads: Threads = None
    length: Length = None
    batch: Batch = 1
    seconds: Annotated[float, typer.Option(help="Seconds to measure.")] = 3.0
    data: Windows = None
    spec: Spec = None
    modules: Annotated[bool, typer.Option(help="Show where the time goes, by PyTorch module.")] = True
    sweep_threads: Annotated[str | None, typer.Option(help="Repeat with thread counts: 1,2,4.")] = None
    sweep_batch: Annotated[str | None, typer.Option(help="Repeat with windows per call: 1,8.")] = None
    sweep_length: Annotated[str | None, typer.Option(help="Repeat with steps per window: 500,1000,2000.")] = (
        None
    )
    rate: Annotated[
        list[float] | None, typer.Option(help="Windows per second to pace calls at; may be repeated.")
    ] = None
    deadline: Annotated[
        float | None, typer.Option(help="Milliseconds allowed per paced call. [until the next is due]")
    ] = None
    soak: Annotated[float | None, typer.Option(help="Minutes to run with changing lengths.")] = None
    soak_runs: Annotated[int | None, typer.Option(help="The same, for this many runs.")] = None
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write NAME.html, NAME.json or NAME.trace.json; may be repeated."
        ),
    ] = None
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit 3 when this holds: 'p99>5ms'; may be repeated. Figures: "
            f"{', '.join(FIGURES)}; missed with --rate, slope_mb with --soak."
        ),
    ] = None

    def job(self) -> Job:
        """What to measure."""
        return Job(
            model=str(self.model),
            precision=self.precision,
            threads=self.threads,
            batch=self.batch,
            length=self.length,
            seconds=self.seconds,
            data=None if self.data is None else str(self.data),
            spec={} if self.spec is None else read_spec(self.spec),
            modules=self.modules,
            rates=self.rate or [],
            deadline=self.deadline,
            soak_runs=self.soak_runs,
            soak_minutes=self.soak,
            sweep_threads=_numbers("threads", self.sweep_threads),
            sweep_batch=_numbers("batch", self.sweep_batch),
            sweep_length=_numbers("length", self.sweep_length),
        )


def profile(request: ProfileRequest) -> None:
    """Measure latency, load time and memory through the runner that an application uses.

    Example: edgesparse profile pump.edgesparse --threads 1 --fail-if 'p99>5ms' -o pump.html
    """
    outputs = request.output or []
    for path in outputs:
        check_form(path, has_modules=request.modules)
        check_output(path)
    has_soak = request.soak is not None or request.soak_runs is not None
    known = (*FIGURES, *(["missed"] if request.rate else []), *(["slope_mb"] if has_soak else []))
    gates = parse_gates(request.fail_if, known)
    result = _measure(request, request.target(), request.job())
    if request.as_json:
        print_json("profile", {key: value for key, value in result.to_dict().items() if key != "trace"})
    else:
        _print(result)
    # A figure that took minutes is on the screen before a full disk can lose it.
    for path in outputs:
        write_result(path, result)
        note(f"written: {path}")
    check_gates(gates, figures(result))


def _measure(request: ProfileRequest, target: Target | None, job: Job) -> ProfileResult:
    try:
        if target is None:
            note_threads(request.threads)
            return run_jobs(job)
        with connect(target, request.model, data=request.data, wheelhouse=request.wheelhouse) as connection:
            result = run_jobs(job, connection.profile)
        return replace(result, on=target.host)
    except KeyboardInterrupt:
        raise Interrupted("nothing was kept") from None


def figures(result: ProfileResult) -> dict[str, float]:
    """What `--fail-if` can bound."""
    found = {k: v for k, v in result.profile.to_dict().items() if isinstance(v, (int, float))}
    if result.paced:
        # With several rates the worst one is bounded.
        found["missed"] = max(paced.missed_share for paced in result.paced)
    if result.soak is not None:
        found["slope_mb"] = result.soak.slope_mb
    return found


def _numbers(name: str, text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"`--sweep-{name}` must be numbers separated by commas; got {text!r}.") from None


def _print(result: ProfileResult) -> None:
    print_fields(_fields(result))
    for name, points in result.sweep.items():
        print()
        rows = [[getattr(p, name), f"{p.p50:.2f}", f"{p.p99:.2f}", f"{p.memory_model:.0f}"] for p in points]
        print_table([name, "p50 ms", "p99 ms", "model's MB"], rows)
    if result.modules:
        print()
        _print_modules(result.modules, result.profile)


def _fields(result: ProfileResult) -> dict[str, object]:
    p, environment = result.profile, result.environment
    where = f"{result.on}: " if result.on is not None else ""
    fields: dict[str, object] = {}
    for i, q in enumerate(result.paced):
        fields["verdict" if len(result.paced) == 1 else f"verdict {i + 1}"] = q.verdict
    fields |= {
        "model": f"{p.model} ({p.precision}, {p.engine})",
        **({"precision": f"{p.precision}, {p.precision_why}"} if p.precision_why else {}),
        "attention": f"{'dense twin' if 'dense twin' in p.engine else 'as exported'}; {p.why}",
        "machine": f"{where}{environment['cpu']}, {p.threads} of {environment['cores']} cores",
        "input": f"{p.batch} window(s) of {p.length} steps{_beside_window(p)}, {p.calls} calls, {p.inputs}",
        "latency": f"p50 {p.p50:.2f} ms, p90 {p.p90:.2f}, p95 {p.p95:.2f}, p99 {p.p99:.2f}, max {p.max:.2f}",
        "first inference": f"{p.first:.1f} ms",
        "load": f"{p.load:.0f} ms",
        "peak memory": f"{p.memory_peak:.0f} MB ({p.memory_model:.0f} MB above the bare runner)",
    }
    if disturbed := disturbances(result.conditions):
        fields["disturbed"] = disturbed
    for q in result.paced:
        fields[f"at {q.rate:g} per second"] = (
            f"p50 {q.p50:.2f} ms, p99 {q.p99:.2f}, max {q.max:.2f}, computing {q.busy:.0%} of the time"
        )
    if result.soak is not None:
        soaked = result.soak
        fields["soak"] = (
            f"{soaked.runs:,} runs of {soaked.lengths[0]} to {soaked.lengths[1]} steps: memory "
            f"changed by {soaked.slope_mb:+.2f} MB [{soaked.slope_low:+.2f}, {soaked.slope_high:+.2f}]"
        )
    return fields


def _beside_window(profile: Profile) -> str:
    """How the length compares with what the model was trained on; "" where that is unknown."""
    if profile.window is None:
        return ""
    if profile.length == profile.window:
        return " (the model's window)"
    return f" (the model was trained on windows of {profile.window})"


def _print_modules(modules: list[Module], profile: Profile) -> None:
    shown, rest = modules[:MOST_ROWS], modules[MOST_ROWS:]
    rows = [
        [m.name, f"{m.milliseconds:.3f}", f"{m.share:.1%}", "" if m.density is None else f"{m.density:.0%}"]
        for m in shown
    ]
    if rest:
        spent, share = sum(m.milliseconds for m in rest), sum(m.share for m in rest)
        rows.append([f"{len(rest)} more", f"{spent:.3f}", f"{share:.1%}", ""])
    print_table(["module", "ms", "share", "density"], rows)
    if doubtful := doubt(modules, profile.p50):
        print(f"note: {doubtful}")


def disturbances(conditions: Conditions) -> str:
    """What made the figures doubtful; "" when nothing did."""
    found = []
    if conditions.quota_throttled:
        found.append(f"throttled by the CPU quota in {conditions.quota_throttled} periods")
    if conditions.heat_throttled:
        found.append(f"slowed by heat {conditions.heat_throttled} times")
    if (conditions.stolen or 0) > 0.01:
        found.append(f"{conditions.stolen:.0%} of the time taken by the host")
    return ", ".join(found)
