"""A wheel in a fresh environment that sees no compiler, predicting with a bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from edgesparse_runtime.bundle.read import Bundle

# numpy and onnxruntime come from the index; the last two are what the command line needs.
PACKAGES = ("numpy", "onnxruntime", "typer", "rich")
COMPILERS = ("c++", "g++", "cc", "gcc", "clang", "clang++", "cmake", "ninja", "make", "ld", "as")
PREDICT = """
import json, sys
import numpy as np
from edgesparse_runtime import Session
session = Session(sys.argv[1], precision="float32", threads=1)
np.save(sys.argv[3], session.predict(np.load(sys.argv[2])))
print(json.dumps(session.engine))
"""


class Found(TypedDict):
    """What a wheel did in its environment.

    Attributes:
        engine: what ran the model.
        compilers: compilers that could be started there.
        advice: of `edgesparse doctor`.
        difference: largest difference of a score from those given.
        close: all scores are within the tolerance given.
    """

    engine: str
    compilers: list[str]
    advice: list[str]
    difference: float
    close: bool


class FreshEnvironment:
    """An empty virtual environment.

    Args:
        place: where it is made.
        hides_compilers: commands in it see no compiler and no build tool.
    """

    def __init__(self, place: Path, *, hides_compilers: bool) -> None:
        self._place = place
        self._hides = hides_compilers
        venv.create(place / "env", with_pip=True, symlinks=True)
        self._bin = place / "env" / "bin"

    def run(self, *words: object) -> str:
        """Standard output of a program of the environment; RuntimeError where it fails."""
        command = [str(self._bin / str(words[0])), *map(str, words[1:])]
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "CXX", "CC")}
        if self._hides:
            clean["PATH"] = str(self._bin)
            command = hide_compilers(command)
        done = subprocess.run(
            command, cwd=self._place, env=clean, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(map(str, words[:4]))} failed:\n{done.stdout[-800:]}{done.stderr[-800:]}"
            )
        return done.stdout

    def install(self, *words: object) -> None:
        """`pip install WORDS`."""
        self.run("python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *words)

    def compilers(self) -> list[str]:
        """Build tools that a program in it can start, by name or in the system's folders."""
        code = (
            "import shutil, subprocess, sys\n"
            "for name in sys.argv[1:]:\n"
            "    path = shutil.which(name) or shutil.which(name, path='/usr/bin:/usr/local/bin:/bin')\n"
            "    if path and subprocess.run([path, '--version'], capture_output=True).returncode == 0:\n"
            "        print(name)\n"
        )
        return self.run("python", "-c", code, *COMPILERS).split()


def hide_compilers(command: list[str]) -> list[str]:
    """The command, in a mount namespace where every compiler and build tool is an empty file.

    As root on Linux only; elsewhere the command as it is, and `compilers()` tells what is still there.
    """
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        return command
    places = [folder for folder in ("/usr/bin", "/usr/local/bin") if Path(folder).is_dir()]
    names = {
        path.resolve()
        for folder in places
        for name in COMPILERS
        for path in (
            *Path(folder).glob(name),
            *Path(folder).glob(f"*-{name}"),
            *Path(folder).glob(f"*{name}-[0-9]*"),
        )
    }
    mount = shutil.which("mount") or "/bin/mount"
    hide = "".join(f"{mount} --bind /dev/null {path} 2>/dev/null; " for path in sorted(names))
    return [unshare, "--mount", "/bin/sh", "-c", f'{hide}exec "$@"', "sh", *command]


def try_wheel(
    wheel: Path, bundle: Bundle, place: Path, *, hides_compilers: bool, relative: float, absolute: float
) -> Found:
    """Installs a wheel, or a source distribution, with `--no-deps` and predicts a bundle's golden windows."""
    place.mkdir(parents=True)
    golden = bundle.golden()
    np.save(place / "windows.npy", golden["windows"])
    fresh = FreshEnvironment(place, hides_compilers=hides_compilers)
    fresh.install(*PACKAGES)
    fresh.install("--no-deps", wheel)
    engine = json.loads(fresh.run("python", "-c", PREDICT, bundle.path, "windows.npy", "scores.npy"))
    doctor: dict[str, Any] = json.loads(fresh.run("edgesparse", "doctor", "--json"))
    expected, found = golden["scores_float32"], np.load(place / "scores.npy")
    return Found(
        engine=engine,
        compilers=fresh.compilers(),
        advice=doctor["advice"],
        difference=float(np.abs(found - expected).max()),
        close=bool(np.allclose(found, expected, rtol=relative, atol=absolute)),
    )


def main() -> None:
    """`python -m benchmarks.wheels.fresh WHEEL BUNDLE FOLDER`: prints what was found."""
    from edgesparse_runtime.bundle.read import open_bundle

    found = try_wheel(
        Path(sys.argv[1]).resolve(),
        open_bundle(Path(sys.argv[2]).resolve()),
        Path(sys.argv[3]).resolve(),
        hides_compilers=True,
        relative=1e-4,
        absolute=1e-5,
    )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
