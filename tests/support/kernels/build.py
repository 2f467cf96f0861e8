"""Builds the operator library and its programs from the sources of this checkout."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

BUILD = ROOT / "build" / "kernels"


class MissingToolError(RuntimeError):
    """The kernels cannot be built on this machine; the message names what is missing."""


def find_tool(name: str) -> str | None:
    """A program of the environment that runs the tests, or of the system."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def build_kernels() -> Path:
    """The folder with `edgesparse_kernels.so`, `test_kernels` and `profile_kernels`, built when needed.

    Raises:
        MissingToolError: there is no cmake or no C++ compiler.
        RuntimeError: the build failed.
    """
    cmake, ninja = find_tool("cmake"), find_tool("ninja")
    if cmake is None:
        raise MissingToolError("no cmake: the operator library cannot be built")
    if not any(find_tool(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        raise MissingToolError("no C++ compiler: the operator library cannot be built")
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        sources = ["-S", str(ROOT / "runtime" / "kernels"), "-B", str(BUILD), "-DEDGESPARSE_TESTS=ON"]
        for command in ([cmake, *generator, *sources], [cmake, "--build", str(BUILD), "--parallel", "2"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"`{' '.join(command[:2])}` failed:\n{done.stdout}{done.stderr}")
    return BUILD
