"""Builds the operator library from the sources beside these tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "kernels"


def find_tool(name: str) -> str | None:
    """A program of the environment that runs the tests, or of the system."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def give_up(reason: str) -> NoReturn:
    """Skips on a developer's machine; fails in CI, where a test that never runs would look like a pass."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def build_kernels() -> Path:
    """The folder with the library and the test programs of `runtime/kernels/tests`, built when needed."""
    cmake, ninja = find_tool("cmake"), find_tool("ninja")
    if cmake is None:
        give_up("no cmake: the operator library cannot be built")
    if not any(find_tool(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        give_up("no C++ compiler: the operator library cannot be built")
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


# The processor's flags, as /proc/cpuinfo names them, that each instruction set needs.
ISA_FLAGS = {
    "scalar": set(),
    "avx2": {"avx2", "fma"},
    "avx512vnni": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma"},
    "neon": {"asimddp"},
}


def expected_isas() -> set[str]:
    """The instruction sets that must load here, by the flags of this processor."""
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags |= set(value.split())
    return {isa for isa, needed in ISA_FLAGS.items() if needed <= flags}


@pytest.fixture(scope="session")
def pinned_results(
    library: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, np.ndarray]]:
    """Every case's output by instruction set of this machine, each pinned in a process of its own.

    A set that the processor has and the library lacks fails here: comparing the others would prove less.
    """
    from tests.kernels.pinned import run_cases

    folder = tmp_path_factory.mktemp("isa")
    found = {isa: run_cases(library, isa, folder / f"{isa}.npz") for isa in ISA_FLAGS}
    results = {isa: result for isa, result in found.items() if result is not None}
    assert set(results) == expected_isas()
    return results
