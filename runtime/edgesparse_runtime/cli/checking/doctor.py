"""`edgesparse doctor`: what this machine can do, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.measure.environment import describe_environment, missing_extras
from edgesparse_runtime.session import Session


def doctor(
    bundle: Annotated[
        Path | None, typer.Argument(help="Say also which attention this bundle runs here, and why.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what this machine can do: CPU, instruction sets, engine, versions, extras.

    Example: edgesparse doctor pump.edgesparse
    """
    found = describe_environment()
    missing = missing_extras()
    advice = []
    if not found["engine"].startswith("native"):
        advice.append(f"Sparse attention runs as {found['engine']}: correct, but slower than the kernels.")
    if found["governor"] not in ("", "performance"):
        advice.append(f"The CPU governor is {found['governor']}; `performance` gives steadier latency.")
    quota = found["cgroup_quota"]
    if quota is not None and quota < 1:
        advice.append(
            f"The quota of {quota:g} cores holds every call back: latency jumps. Give it a whole core."
        )
    if found["throttling"] and found["throttling"]["periods"]:
        held = found["throttling"]
        advice.append(
            f"The quota held this group back in {held['periods']} periods, "
            f"{held['microseconds'] / 1e6:.1f} s in all: latency jumps when that happens."
        )
    if found["telemetry"] != "off":
        advice.append("onnxruntime may send telemetry: unset ORT_DISABLE_TELEMETRY=0.")
    for extra, packages in missing.items():
        advice.append(
            f"{', '.join(packages)} not installed: pip install 'edgesparse[{extra}]' if you need it."
        )
    attention = {} if bundle is None else _attention(bundle)
    if as_json:
        content = {"environment": found, "missing": missing, "advice": advice}
        print_json("doctor", content if bundle is None else content | {"attention": attention})
        return
    print_fields(
        {
            "cpu": f"{found['cpu']} ({found['machine']})",
            "instruction sets": " ".join(found["instruction_sets"]) or "unknown",
            "cores": f"{found['cores']}, {found['usable_threads']} usable"
            + (f" (quota {quota:g})" if quota else ""),
            "governor": found["governor"] or "not visible",
            "engine": found["engine"],
            "versions": ", ".join(f"{name} {v}" for name, v in found["versions"].items()),
            "telemetry": found["telemetry"],
            **{
                f"attention, {precision}": f"{a['runs']}, {a['threads']} thread(s); {a['why']}"
                for precision, a in attention.items()
            },
            "advice": "\n        ".join(advice) or "nothing to do",
        }
    )


def _attention(bundle: Path) -> dict[str, dict[str, Any]]:
    """What each model of a bundle runs its attention with on this machine."""
    opened = open_bundle(bundle)
    found = {}
    for precision in opened.precisions:
        session = Session(opened, precision=precision)
        steps = session.switch.steps
        runs = f"dense twin up to {steps} steps, else {session.engine}" if steps else session.engine
        why = session.switch.reason
        found[precision] = {"runs": runs, "dense_up_to": steps, "threads": session.threads, "why": why}
    return found
