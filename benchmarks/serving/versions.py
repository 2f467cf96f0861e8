"""What each part of `make prove-serve` depends on: a change elsewhere does not void what was measured.

A part's version changes with what the sources that it runs compute: those that its entry points import,
wherever they lie in this repository, comments and docstrings left out. The models that it runs are of any
training: their weights decide no claim about serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.support.import_closure import PACKAGES, ROOT, hash_code, import_closure
from benchmarks.support.stored_cases import hash_files

RUNTIME = ROOT / "runtime" / "edgesparse_runtime"
_SERVER = ("serving/server.py", "serving/sandbox.py", "cli/running/serve.py")
_STREAM = (
    "cli/running/run.py",
    "cli/running/follow.py",
    "stream/causal.py",
    "stream/step/token_stream.py",
    "session.py",
)
_RUNNING = "tests/support/running.py"


@dataclass(frozen=True)
class _Part:
    """What a part runs.

    Attributes:
        runtime: entry points in the runtime.
        others: entry points elsewhere in the repository.
        alone: files that count without what they import.
        has_kernels: its figures depend on the native kernels.
    """

    runtime: tuple[str, ...]
    others: tuple[str, ...] = ()
    alone: tuple[str, ...] = (_RUNNING,)
    has_kernels: bool = False


_PARTS = {
    "tritonclient": _Part(
        _SERVER,
        alone=(_RUNNING, "tests/runtime/serving/conftest.py", "tests/runtime/serving/test_tritonclient.py"),
    ),
    "schemathesis": _Part(_SERVER, ("benchmarks/serving/clients.py",)),
    "load": _Part(_SERVER, ("benchmarks/serving/soak.py",)),
    "speed": _Part(
        _SERVER, ("benchmarks/serving/speed.py", "benchmarks/serving/fastapi.py"), has_kernels=True
    ),
    "kills": _Part(_SERVER, ("benchmarks/serving/kills.py",)),
    "mutations": _Part(
        (),
        (
            "benchmarks/serving/fuzz.py",
            "benchmarks/serving/fuzz_target.py",
            "tests/support/hostile_models.py",
        ),
    ),
    "ray": _Part(("deploying/ray_serve.py", "cli/running/deploy.py"), ("benchmarks/serving/ray.py",)),
    "stream": _Part(
        _STREAM,
        ("tests/support/recordings/streams.py", "export/edgesparse_export/step/files.py"),
        ("benchmarks/proofs/serve_stream.py",),
        has_kernels=True,
    ),
}


@cache
def version_of(part: str) -> str:
    """Changes with what the part's sources compute."""
    wanted = _PARTS[part]
    entries = [RUNTIME / name for name in wanted.runtime] + [ROOT / name for name in wanted.others]
    files = {*entries, *(ROOT / name for name in wanted.alone)}.union(*map(_closure, entries))
    code = hash_code(files)
    if not wanted.has_kernels:
        return code
    kernels = ROOT / "runtime" / "kernels"
    return f"{code}-{hash_files([*kernels.rglob('*.cc'), *kernels.rglob('*.h')])}"


@cache
def _closure(entry: Path) -> set[Path]:
    return import_closure(entry, *PACKAGES)
