"""`edgesparse doctor`: what this machine can do, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.cli.options import Request
from edgesparse_runtime.cli.output import print_fields, print_json
from edgesparse_runtime.measure.environment import Environment, describe_environment, missing_extras
from edgesparse_runtime.session import Session


@dataclass(frozen=True, kw_only=True)
class DoctorRequest(Request):
    """Arguments and options of `edgesparse doctor`."""

    bundle: Annotated[
        Path | None,
        typer.Argument(help="Also show which attention this bundle runs on this machine, and why."),
    ] = None


def doctor(request: DoctorRequest) -> None:
    """Show what this machine can do: CPU, instruction sets, engine, versions, extras.

    Example: edgesparse doctor pump.edgesparse
    """
    found, missing = describe_environment(), missing_extras()
    advice = _advice(found, missing)
    attention = {} if request.bundle is None else _attention(request.bundle)
    if request.as_json:
        content = {"environment": found, "missing": missing, "advice": advice}
        print_json("doctor", content if request.bundle is None else content | {"attention": attention})
        return
    quota = found["cgroup_quota"]
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
            **({} if request.bundle is None else {"precision": _default(attention)}),
            "advice": "\n        ".join(advice) or "nothing to do",
        }
    )


def _advice(found: Environment, missing: dict[str, list[str]]) -> list[str]:
    advice = []
    if not found["engine"].startswith("native"):
        advice.append(f"Sparse attention runs as {found['engine']}: correct, but slower than the kernels.")
    if found["engine_remark"]:
        advice.append(found["engine_remark"])
    if not found["library"]:
        advice.append(
            "This installation has no native kernels: int8 models run at float32 speed or slower, and long "
            "inputs take longer. Install the wheel edgesparse-*-manylinux_*.whl for this machine, or, with a "
            "C++ compiler: pip install --force-reinstall --no-deps --no-binary edgesparse edgesparse."
        )
    if found["governor"] not in ("", "performance"):
        advice.append(f"The CPU governor is {found['governor']}; `performance` gives steadier latency.")
    quota, throttled = found["cgroup_quota"], found["throttling"]
    if quota is not None and quota < 1:
        advice.append(
            f"A CPU quota of {quota:g} cores throttles every call; latency will spike. Give it a whole core."
        )
    if throttled and throttled["periods"]:
        advice.append(
            f"The CPU quota has throttled this control group in {throttled['periods']} periods, "
            f"{throttled['microseconds'] / 1e6:.1f} s in all; latency spikes each time."
        )
    if found["telemetry"] != "off":
        advice.append("onnxruntime may send telemetry: unset ORT_DISABLE_TELEMETRY=0.")
    for extra, packages in missing.items():
        advice.append(f"Not installed: {', '.join(packages)}. If needed: pip install 'edgesparse[{extra}]'.")
    return advice


def _default(attention: Mapping[str, dict[str, Any]]) -> str:
    """The precision that `auto` stands for here, and why."""
    return next(f"{name}: {a['default_because']}" for name, a in attention.items() if "is_default" in a)


def _attention(bundle: Path) -> dict[str, dict[str, Any]]:
    """What runs the attention of each model of a bundle on this machine."""
    opened = open_bundle(bundle)
    found = {}
    for precision in opened.precisions:
        session = Session(opened, precision=precision)
        steps = session.switch.steps
        runs = f"dense twin up to {steps} steps, else {session.engine}" if steps else session.engine
        why = session.switch.reason
        found[precision] = {"runs": runs, "dense_up_to": steps, "threads": session.threads, "why": why}
    chosen = Session(opened)
    found[chosen.precision] |= {"is_default": True, "default_because": chosen.precision_reason}
    return found
