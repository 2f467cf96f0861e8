"""Runs every case on the instruction set that EDGESPARSE_ISA pins: `-m tests.kernels.pinned LIB OUT`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from edgesparse_runtime.engine import register
from tests.support.kernels.cases import CASES
from tests.support.kernels.layer_models import FLOAT, LINEAR, run_layer
from tests.support.kernels.models import run_kernel
from tests.support.kernels.sampled import SAMPLED_CASES, run_sampled
from tests.support.kernels.windows import WINDOW_CASES, run_window
from tests.support.paths import ROOT

Results = dict[str, np.ndarray]


def run_cases(library: Path, isa: str, target: Path) -> Results | None:
    """Every case in a process pinned to `isa`, stored in `target`; None where the machine lacks it."""
    path = os.pathsep.join(str(ROOT / part) for part in (".", "export", "runtime"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.pinned", str(library), str(target)],
        env={**os.environ, "EDGESPARSE_ISA": isa, "PYTHONPATH": path, "EDGESPARSE_ENGINE": ""},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if "must name an instruction set of this machine" in done.stdout + done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return load_results(target)


def load_results(path: Path) -> Results:
    """What `run_cases` stored."""
    with np.load(path) as stored:
        return dict(stored)


def main() -> None:
    """Saves each case's output in both precisions, and the name of the instruction set."""
    library, target = sys.argv[1:]
    results = {"isa": np.array(str(register(onnxruntime.SessionOptions(), library)))}
    for case in CASES:
        for precision in ("float32", "int8"):
            results[f"{case.name}/{precision}"], _ = run_kernel(library, case.node(precision), case.feeds())
    for window in WINDOW_CASES:
        results[f"window/{window.name}"] = run_window(library, window)
    for sampled in SAMPLED_CASES:
        results[f"sampled/{sampled.name}"] = run_sampled(library, sampled)
    for node in LINEAR + FLOAT:
        results[f"layer/{node.name}"] = run_layer(library, node)
    np.savez(target, **results)


if __name__ == "__main__":
    main()
