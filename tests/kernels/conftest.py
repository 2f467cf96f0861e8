"""Builds the operator library from the sources beside these tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "kernels"


def find_tool(name: str) -> str | None:
    """A program of the environment that runs the tests, or of the system."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def build_kernels() -> Path:
    """The folder with `edgesparse_kernels.so`, `test_kernels` and `profile_kernels`, built when needed."""
    cmake, ninja = find_tool("cmake"), find_tool("ninja")
    if cmake is None:
        pytest.skip("no cmake: the operator library cannot be built")
    if not any(find_tool(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        pytest.skip("no C++ compiler: the operator library cannot be built")
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        sources = ["-S", str(ROOT / "runtime" / "kernels"), "-B", str(BUILD), "-DEDGESPARSE_TESTS=ON"]
        for command in ([cmake, *generator, *sources], [cmake, "--build", str(BUILD), "--parallel", "2"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    return BUILD


@pytest.fixture(scope="session")
def kernels_build() -> Path:
    """The build folder."""
    return build_kernels()


@pytest.fixture(scope="session")
def library(kernels_build: Path) -> Path:
    """The operator library."""
    return kernels_build / "edgesparse_kernels.so"


ISAS = ("scalar", "avx2", "avx512vnni", "neon")


@pytest.fixture(scope="session")
def pinned_results(
    library: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, np.ndarray]]:
    """Every case's output by instruction set of this machine, each pinned in a process of its own."""
    from tests.kernels.pinned import run_cases

    folder = tmp_path_factory.mktemp("isa")
    found = {isa: run_cases(library, isa, folder / f"{isa}.npz") for isa in ISAS}
    return {isa: result for isa, result in found.items() if result is not None}
