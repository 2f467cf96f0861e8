"""The operator library, and every case's output on every instruction set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.pinned import load_results, run_cases
from tests.support.built_once import BuiltOnce
from tests.support.kernels.fixtures import kernels_build as kernels_build
from tests.support.kernels.fixtures import library as library
from tests.support.kernels.isas import ISA_FLAGS, expected_isas


@pytest.fixture(scope="session")
def pinned_results(library: Path, built_once: BuiltOnce) -> dict[str, dict[str, np.ndarray]]:
    """Every case's output by instruction set of this machine, each pinned in a process of its own.

    A set that the processor has and the library lacks fails here: comparing the others would prove less.
    """

    def build(folder: Path) -> None:
        for isa in ISA_FLAGS:
            run_cases(library, isa, folder / f"{isa}.npz")

    folder = built_once("isa", build)
    results = {path.stem: load_results(path) for path in folder.glob("*.npz")}
    assert set(results) == expected_isas()
    return results
