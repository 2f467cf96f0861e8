"""What a box without internet needs to run a bundle: wheels of the base packages and of the runner.

The runner's own wheel is made from what is installed here. Its native library fits one kind of processor: for
another it is left out, and the function body that every model carries runs instead, unless a wheel that was
built for that processor is given.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgesparse_runtime.bundle.staging import remove_leftovers, stage_folder
from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.deploying.remote.connection import runner_files
from edgesparse_runtime.engine import LIBRARY_NAME
from edgesparse_runtime.errors import EdgeSparseError, InputError

# As in pyproject.toml; a test holds the two together.
BASE = ("numpy>=1.26", "onnxruntime>=1.28")
COMMAND_LINE = ("typer>=0.16", "rich>=13")
OLDEST_PYTHON = (3, 11)
# Of glibc 2.N: before there were no wheels, and what comes after the last is not known here.
GLIBC = range(17, 100)
# glibc versions that wheels are built against, newest first; a box takes those up to its own.
_MANYLINUX = (39, 38, 37, 36, 35, 34, 31, 28, 27, 26, 24, 17)
_ARCHITECTURES = ("x86_64", "aarch64")


@dataclass(frozen=True)
class Wheelhouse:
    """What was gathered.

    Attributes:
        folder: where it is.
        wheels: names of the files that this call gathered.
        native: the runner's wheel holds a native library for that platform.
        install: what to type on the box.
    """

    folder: Path
    wheels: list[str]
    native: bool
    install: str


def gather(
    out: Path,
    target: str,
    *,
    python: str = "3.11",
    glibc: int = 28,
    command_line: bool = False,
    runner: Path | None = None,
) -> Wheelhouse:
    """Download and make the wheels.

    Args:
        target: linux_x86_64 or linux_aarch64.
        python: version on the box.
        glibc: of the box: 2.`glibc` (Debian 10: 28, Debian 11: 31, Debian 12: 36).
        command_line: the `edgesparse` command too, not the Python runner alone.
        runner: a wheel of ours that was built for the box, in place of the one made here.

    Raises:
        InputError: an unknown platform, Python or glibc, `out` is a file, or `runner` is no wheel of ours.
        EdgeSparseError: pip does not find a wheel for the box.
    """
    system, _, architecture = target.partition("_")
    if system != "linux" or architecture not in _ARCHITECTURES:
        known = " or ".join(f"linux_{a}" for a in _ARCHITECTURES)
        raise InputError(f"`--platform` must be {known}; got {target}.")
    if runner is not None and not (runner.is_file() and runner.name.startswith("edgesparse-")):
        raise InputError(f"`--runner` must be a wheel edgesparse-*.whl; got {runner}.")
    if glibc not in GLIBC:
        raise InputError(f"`--glibc` must be the N of glibc 2.N, {GLIBC[0]} or more; got {glibc}. Use 28.")
    version = re.fullmatch(r"(\d+)\.(\d+)", python)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise InputError(f"`--python` must be a version from {oldest} on; got {python}. Use {oldest}.")
    if out.exists() and not out.is_dir():
        raise InputError(f"`--out` must be a folder; {out} is a file.")
    out.mkdir(parents=True, exist_ok=True)
    with _staging(out) as folder:
        native = _fill(folder, architecture, python, glibc, command_line, runner)
        wheels = sorted(path.name for path in folder.glob("*.whl"))
        for wheel in wheels:
            (folder / wheel).replace(out / wheel)
    extra = "[cli]" if command_line else ""
    return Wheelhouse(
        folder=out,
        wheels=wheels,
        native=native,
        install=f"pip install --no-index --find-links {out.name} 'edgesparse{extra}'",
    )


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder inside `out` for wheels that are not all there yet; what killed runs left goes first."""
    target = out / "wheels"
    remove_leftovers(target)
    folder, handle = stage_folder(target)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _fill(
    out: Path, architecture: str, python: str, glibc: int, command_line: bool, runner: Path | None
) -> bool:
    """Put the wheels into an empty folder; True where the runner's holds a native library."""
    packages = [*BASE, *(COMMAND_LINE if command_line else ())]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--dest", str(out), "--implementation", "cp"]
    command += ["--python-version", python]
    for tag in platform_tags(architecture, glibc):
        command += ["--platform", tag]
    done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EdgeSparseError(
            f"pip must find wheels for linux_{architecture}, Python {python}, glibc 2.{glibc}; "
            f"{(errors or ['it failed'])[-1].removeprefix('ERROR: ')}"
        )
    if runner is not None:
        (out / runner.name).write_bytes(runner.read_bytes())
        return architecture in runner.name
    native = _is_here(architecture)
    write_runner_wheel(out, f"linux_{architecture}" if native else "any")
    return native


def platform_tags(architecture: str, glibc: int) -> list[str]:
    """pip's names for wheels that a box of this architecture and glibc takes."""
    return [f"manylinux_2_{minor}_{architecture}" for minor in _MANYLINUX if minor <= glibc] + [
        f"manylinux2014_{architecture}",
        f"linux_{architecture}",
    ]


def write_runner_wheel(out: Path, tag: str) -> Path:
    """The runner as a wheel, from the files that run here; with tag "any" without the native library.

    Returns:
        Its path.
    """
    version = tool_version().replace("+source", "+source.1")
    folder = f"edgesparse-{version}.dist-info"
    path = out / f"edgesparse-{version}-py3-none-{tag}.whl"
    files = {
        f"edgesparse_runtime/{name}": content
        for name, content in runner_files()
        if tag != "any" or name != LIBRARY_NAME
    }
    requires = "".join(f"Requires-Dist: {name}\n" for name in BASE)
    requires += "Provides-Extra: cli\n"
    requires += "".join(f'Requires-Dist: {name}; extra == "cli"\n' for name in COMMAND_LINE)
    files[f"{folder}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: edgesparse\nVersion: {version}\n"
        f"Summary: The runner of EdgeSparse\nRequires-Python: >=3.11\n{requires}"
    ).encode()
    pure = "true" if tag == "any" else "false"
    files[f"{folder}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: edgesparse wheelhouse\nRoot-Is-Purelib: {pure}\n"
        f"Tag: py3-none-{tag}\n"
    ).encode()
    files[f"{folder}/entry_points.txt"] = b"[console_scripts]\nedgesparse = edgesparse_runtime.cli:main\n"
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{folder}/RECORD"] = (record + f"{folder}/RECORD,,\n").encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _is_here(architecture: str) -> bool:
    """True where the library that is installed here runs on that architecture."""
    has_library = any(name == LIBRARY_NAME for name, _ in runner_files())
    return has_library and sys.platform == "linux" and platform.machine() == architecture


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
