"""Runs every case on the instruction set that EDGESPARSE_ISA pins: `-m tests.kernels.pinned LIB OUT`."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

from edgesparse_runtime.library import register
from tests.kernels.cases import CASES
from tests.kernels.models import run_kernel


def main() -> None:
    """Saves each case's output in both precisions, and the name of the instruction set."""
    library, target = sys.argv[1:]
    results = {"isa": np.array(str(register(onnxruntime.SessionOptions(), library)))}
    for case in CASES:
        for precision in ("float32", "int8"):
            results[f"{case.name}/{precision}"], _ = run_kernel(library, case.node(precision), case.feeds())
    np.savez(target, **results)


if __name__ == "__main__":
    main()
