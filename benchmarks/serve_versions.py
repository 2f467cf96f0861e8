"""What each part of `make prove-serve` depends on: a change elsewhere does not void what was measured.

A part's version changes with what the sources that it runs compute: those that its entry points import,
wherever they lie in this repository, comments and docstrings left out. The models that it runs are of any
training: their weights decide no claim about serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.import_closure import PACKAGES, ROOT, hash_code, import_closure
from benchmarks.stored_cases import hash_files

RUNTIME = ROOT / "runtime" / "edgesparse_runtime"
_SERVER = ("serving/server.py", "serving/rehearsal.py", "cli/serve.py")
_STREAM = ("cli/run.py", "cli/follow.py", "stream/causal.py", "stream/step_model.py", "session.py")
_RUNNING = "tests/serving/running.py"


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
        _SERVER, alone=(_RUNNING, "tests/serving/conftest.py", "tests/serving/test_tritonclient.py")
    ),
    "schemathesis": _Part(_SERVER, ("benchmarks/serve_clients.py",)),
    "load": _Part(_SERVER, ("benchmarks/serve_soak.py",)),
    "speed": _Part(_SERVER, ("benchmarks/serve_speed.py", "benchmarks/serve_fastapi.py"), has_kernels=True),
    "kills": _Part(_SERVER, ("benchmarks/serve_kills.py",)),
    "mutations": _Part(
        (), ("benchmarks/serve_fuzz.py", "benchmarks/serve_fuzz_target.py", "tests/attacks/models.py")
    ),
    "ray": _Part(("deploying/ray_serve.py", "cli/deploy.py"), ("benchmarks/serve_ray.py",)),
    "stream": _Part(
        _STREAM,
        ("tests/runtime/streams.py", "export/edgesparse_export/step_files.py"),
        ("benchmarks/prove_serve_stream.py",),
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
