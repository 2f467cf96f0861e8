"""What machine this is and how it is set up: printed with every figure measured on it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnxruntime

from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.engine import get_library_path, register
from edgesparse_runtime.machine.cgroup import cgroup_quota, throttling
from edgesparse_runtime.machine.processor import cpu_name, instruction_sets
from edgesparse_runtime.session import default_threads

EXTRAS = {
    "cli": ("typer", "rich"),
    "data": ("pyarrow", "sktime"),
    "train": ("torch", "safetensors", "yaml"),
    "export": ("onnx", "onnxscript"),
    "serve": ("starlette", "uvicorn", "httptools", "prometheus-client"),
    "sign": ("cryptography",),
}


class Environment(TypedDict):
    """What `describe_environment` found; "" or None where the system does not tell."""

    cpu: str
    machine: str
    system: str
    instruction_sets: list[str]
    cores: int | None
    usable_threads: int
    cgroup_quota: float | None
    throttling: dict[str, Any] | None
    governor: str
    engine: str
    engine_remark: str
    library: bool
    versions: dict[str, str]
    telemetry: str


def describe_environment() -> Environment:
    """CPU, instruction sets, cores against quota, governor, versions, engine and telemetry."""
    engine = register(onnxruntime.SessionOptions())
    return {
        "cpu": cpu_name(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "instruction_sets": instruction_sets(),
        "cores": os.cpu_count(),
        "usable_threads": default_threads(),
        "cgroup_quota": cgroup_quota(),
        "throttling": throttling(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "engine": str(engine),
        "engine_remark": engine.reason if engine.isa else "",
        "library": get_library_path() is not None,
        "versions": {
            "edgesparse": tool_version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "telemetry": "off" if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" else "on",
    }


def missing_extras() -> dict[str, list[str]]:
    """Packages that are not installed, by extra; an extra that is complete is left out."""
    missing = {extra: [p for p in packages if not _is_installed(p)] for extra, packages in EXTRAS.items()}
    return {extra: packages for extra, packages in missing.items() if packages}


def _is_installed(package: str) -> bool:
    try:
        version({"yaml": "PyYAML"}.get(package, package))
    except PackageNotFoundError:
        return False
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""
