"""What a figure was measured on: stands in every result file."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("edgesparse", "torch", "onnxruntime", "onnx", "onnxscript", "numpy")


def describe_machine(threads: int | None = None) -> dict[str, object]:
    """CPU, cores, versions, commit and command line."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "command": " ".join(["python", "-m", _module_name(), *sys.argv[1:]]),
    }


def machine_facts() -> dict[str, object]:
    """What stored figures depend on: processor, system and versions."""
    found = describe_machine()
    return {key: found[key] for key in ("cpu", "cores", "system", "python", "versions")}


def _module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).name


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).parent
    result = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or None
