"""The operator library, and every case's output on every instruction set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.pinned import run_cases
from tests.support.kernels.fixtures import kernels_build as kernels_build
from tests.support.kernels.fixtures import library as library
from tests.support.kernels.isas import ISA_FLAGS, expected_isas


@pytest.fixture(scope="session")
def pinned_results(
    library: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, np.ndarray]]:
    """Every case's output by instruction set of this machine, each pinned in a process of its own.

    A set that the processor has and the library lacks fails here: comparing the others would prove less.
    """
    folder = tmp_path_factory.mktemp("isa")
    found = {isa: run_cases(library, isa, folder / f"{isa}.npz") for isa in ISA_FLAGS}
    results = {isa: result for isa, result in found.items() if result is not None}
    assert set(results) == expected_isas()
    return results
