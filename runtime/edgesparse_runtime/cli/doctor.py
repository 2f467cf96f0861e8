"""`edgesparse doctor`: what this machine can do, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.environment import describe_environment, missing_extras


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what this machine can do: CPU, instruction sets, engine, versions, extras.

    Example: edgesparse doctor
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
    if as_json:
        print_json("doctor", {"environment": found, "missing": missing, "advice": advice})
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
            "advice": "\n        ".join(advice) or "nothing to do",
        }
    )
