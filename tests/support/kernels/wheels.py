"""Builds the wheels of this checkout: for this machine, for AArch64 and musl, and one for any machine.

Each goes through the build backend that pip calls. A wheel that was to hold the kernels and does not, because
the build fell back to the one without, is an error here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.support.kernels.build import MissingToolError, find_tool
from tests.support.paths import ROOT

LIBRARY = "edgesparse_runtime/edgesparse_kernels.so"
ARM64_COMPILER = "aarch64-linux-gnu-g++"
# What the compiler of the ziglang package calls musl, by processor.
MUSL_TARGETS = {"x86_64": "x86_64-linux-musl", "aarch64": "aarch64-linux-musl"}
# Symbols of musl that a library built with ziglang needs came with this version.
MUSL_VERSION = "1_2"


@dataclass(frozen=True)
class Cross:
    """What a build for another machine needs.

    Attributes:
        processor: x86_64 or aarch64.
        compiler: the cross compiler's path.
        platform: as Python would call that machine.
    """

    processor: str
    compiler: str
    platform: str


def build_sdist(out: Path) -> Path:
    """The source distribution."""
    return _build(out, "--sdist")


def build_native(out: Path) -> Path:
    """The wheel of this machine, tagged by the oldest glibc that it runs on where auditwheel is installed.

    Raises:
        MissingToolError: there is no C++ compiler.
        RuntimeError: the build failed.
    """
    return _with_kernels(out)


def build_arm64(out: Path) -> Path:
    """The wheel for AArch64, by a cross compiler.

    Raises:
        MissingToolError: there is none.
        RuntimeError: the build failed.
    """
    if find_tool(ARM64_COMPILER) is None:
        raise MissingToolError(f"no {ARM64_COMPILER}: the AArch64 wheel cannot be built")
    return _with_kernels(out, Cross("aarch64", ARM64_COMPILER, "linux-aarch64"))


def build_musl(out: Path, processor: str) -> Path:
    """The wheel for Linux with musl, such as Alpine, by the compiler of the ziglang package.

    Raises:
        MissingToolError: ziglang is not installed.
        RuntimeError: the build failed.
    """
    with tempfile.TemporaryDirectory() as place:
        compiler = zig_compiler(Path(place), MUSL_TARGETS[processor])
        return _with_kernels(out, Cross(processor, str(compiler), f"musllinux_{MUSL_VERSION}_{processor}"))


def build_pure(out: Path) -> Path:
    """The wheel without kernels, for any machine."""
    return _build(out, "--wheel", "-Cwheel.cmake=false")


def zig_compiler(folder: Path, target: str) -> Path:
    """A program in `folder` that compiles C++ for `target` with the ziglang package.

    Raises:
        MissingToolError: ziglang is not installed.
    """
    if find_spec("ziglang") is None:
        raise MissingToolError("no ziglang: run pip install ziglang")
    program = folder / f"{target}-c++"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ziglang c++ -target {target} "$@"\n')
    program.chmod(0o755)
    return program


def has_library(wheel: Path) -> bool:
    """True where a wheel holds the kernels."""
    with zipfile.ZipFile(wheel) as archive:
        return LIBRARY in archive.namelist()


def _with_kernels(out: Path, cross: Cross | None = None) -> Path:
    options, environment = [], {}
    if cross is not None:
        defines = {
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": cross.processor,
            "CMAKE_CXX_COMPILER": cross.compiler,
        }
        options = [f"-Ccmake.define.{name}={value}" for name, value in defines.items()]
        environment["_PYTHON_HOST_PLATFORM"] = cross.platform
    with tempfile.TemporaryDirectory() as place:
        built = Path(place) / "built"
        wheel = _build(built, "--wheel", f"-Cbuild-dir={place}/cmake", *options, **environment)
        if not has_library(wheel):
            raise MissingToolError("no C++ compiler that builds the kernels: the wheel holds none")
        out.mkdir(parents=True, exist_ok=True)
        return _repair(wheel, out)


def _build(out: Path, kind: str, *options: str, **environment: str) -> Path:
    with tempfile.TemporaryDirectory() as place:
        _run(
            [sys.executable, "-m", "build", kind, "--no-isolation", "-o", place, *options, str(ROOT)],
            **environment,
        )
        (built,) = Path(place).iterdir()
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(built, out / built.name))


def _repair(wheel: Path, out: Path) -> Path:
    """The wheel with the manylinux tag that its library allows; as it is without auditwheel."""
    if "-linux_" not in wheel.name or find_spec("auditwheel") is None or find_tool("patchelf") is None:
        return Path(shutil.move(wheel, out / wheel.name))
    with tempfile.TemporaryDirectory() as place:
        _run([sys.executable, "-m", "auditwheel", "repair", "-w", place, str(wheel)])
        (repaired,) = Path(place).iterdir()
        return Path(shutil.move(repaired, out / repaired.name))


def _run(command: list[str], **environment: str) -> str:
    # Tools of this environment, also where it is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command[1:4])}` failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout
