"""The kernels' own programs (`profile_kernels`, `measure_peak`), built from the sources beside them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.attention.case import BLOCK, Case
from benchmarks.support.stored_cases import hash_files
from tests.support.paths import ROOT, source_environment


def hash_sources() -> str:
    """Changes with every line of the kernels, of the function body and of how they are measured."""
    kernels = (ROOT / "runtime" / "kernels").rglob("*")
    paths = [path for path in kernels if path.suffix in (".cc", ".h", ".txt", ".map")]
    paths += (ROOT / "benchmarks" / "attention").glob("*.py")
    return hash_files([*paths, ROOT / "export" / "edgesparse_export" / "functions" / "sparse_attention.py"])


def run_program(command: list[str]) -> str:
    """What a program prints that finds our packages."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=source_environment(),
        cwd=ROOT,
    ).stdout


def measure_peak(build: Path, threads: int) -> dict[str, Any]:
    """`fma_gflops` and `dot_gops` over all threads; null where the instruction set has none."""
    peak: dict[str, Any] = json.loads(run_program([str(build / "measure_peak"), str(threads)]))
    return peak


def profile_phases(build: Path, case: Case, precision: str, repeats: int = 8) -> dict[str, float]:
    """Seconds of a run on one thread without onnxruntime, and shares of it.

    `softmax_share` is a part of the attention itself; the other three come before it.
    """
    sizes = (case.tokens, case.heads, case.head_size, BLOCK, case.kept)
    command = [str(build / "profile_kernels"), *map(str, sizes), precision, str(repeats)]
    found = json.loads(run_program(command))
    shares = {
        f"{x}_share": found[x] / found["seconds"] for x in ("selection", "packing", "summaries", "softmax")
    }
    return {"seconds": found["seconds"], **shares}
