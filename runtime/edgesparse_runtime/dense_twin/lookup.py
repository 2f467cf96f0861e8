"""Looks up below which length a bundle's dense twin runs in place of sparse attention, on this machine.

On short windows the router and the selection can cost more than they save. `edgesparse breakeven` measures
that and stores it in the bundle; here it is looked up. An entry counts only on a machine like the one that it
was measured on, for the very model file that was measured: anything else runs sparse, and the reason is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime

from edgesparse_runtime.dense_twin.switch import NO_TWIN, Switch
from edgesparse_runtime.engine import get_library_path
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.processor import cpu_name, instruction_sets

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.manifest_types import DenseUpTo, Manifest

# What must be equal for a measurement to count.
MACHINE = ("cpu", "instruction_sets", "threads", "onnxruntime", "engine", "kernels")
# docs/concepts/break-even.md: a twin pays for its memory only when faster by the whole interval and so much.
LEAST_GAIN = 1.02
# Most decisions that may differ between twin and sparse model; the limit that int8 has too.
MOST_FLIPPED = 0.01
# Without classes: the largest difference as a share of the spread of the sparse model's scores.
MOST_MOVED = 0.02


def describe_machine(threads: int, engine: str) -> dict[str, Any]:
    """What a measured time depends on, besides the model.

    Args:
        threads: of one prediction.
        engine: what runs sparse attention, as `Session.engine` names it.
    """
    return {
        "cpu": cpu_name(),
        "instruction_sets": instruction_sets(),
        "threads": threads,
        "onnxruntime": onnxruntime.__version__,
        "engine": engine,
        "kernels": _kernels() if engine.startswith("native") else None,
    }


def find_switch(manifest: Manifest, precision: str, threads: int, engine: str) -> Switch:
    """What was measured for this model on a machine like this one."""
    twin = twin_file(manifest, precision)
    if twin is None:
        return Switch((), NO_TWIN)
    entry = find_entry(manifest, precision, threads, engine)
    if entry is not None:
        return _read_entry(entry)
    measured = _measured(manifest, precision)
    if not measured:
        return Switch((), "break-even was not measured; `edgesparse breakeven` does")
    machine = describe_machine(threads, engine)
    differs = [field for field in MACHINE if measured[0].get(field) != machine[field]]
    return Switch((), f"break-even was measured elsewhere ({', '.join(differs)} differ)")


def find_entry(manifest: Manifest, precision: str, threads: int, engine: str) -> dict[str, Any] | None:
    """The newest measurement of this model on a machine like this one."""
    measured = _measured(manifest, precision)
    if not measured:
        return None
    machine = describe_machine(threads, engine)
    return next((e for e in measured if all(e.get(field) == machine[field] for field in MACHINE)), None)


def _measured(manifest: Manifest, precision: str) -> list[dict[str, Any]]:
    return [e for e in entries_of(manifest, precision) if e.get("model") == hash_of(manifest, precision)]


def twin_file(manifest: Manifest, precision: str) -> str | None:
    """The dense twin's file, where the bundle has one made of its present model."""
    twin = manifest["dense"].get(precision)
    if twin is None or twin.get("of") != hash_of(manifest, precision):
        return None
    return str(twin["file"])


def required_twin(manifest: Manifest, precision: str, path: Path) -> str:
    """The dense twin's file.

    Raises:
        InputError: the bundle has none.
    """
    file = twin_file(manifest, precision)
    if file is None:
        cure = "`edgesparse breakeven` makes one."
        if manifest["input"].get("tensors"):
            cure = "Choose float32, of a bundle exported with --with-dense."
        raise InputError(f"`attention` must not be dense; {path} has no dense {precision} twin. {cure}")
    return file


def hash_of(manifest: Manifest, precision: str) -> str | None:
    """The sha256 of the sparse model's file."""
    model = manifest["models"].get(precision)
    return None if model is None else str(manifest["files"][model["file"]]["sha256"])


def entries_of(manifest: Manifest, precision: str) -> list[dict[str, Any]]:
    """What was measured of a precision, on any machine; the newest first."""
    return [entry for entry in reversed(manifest["breakeven"]) if entry.get("precision") == precision]


def find_limits(table: Sequence[Mapping[str, Any]]) -> list[DenseUpTo]:
    """Per density, the steps up to which dense wins at every measured length; 0 where it does not.

    A length counts when dense is faster and decides the same.
    """
    limits: list[DenseUpTo] = []
    for density in dict.fromkeys(row["density"] for row in table):
        steps = 0
        for row in sorted((r for r in table if r["density"] == density), key=lambda r: int(r["length"])):
            if row["winner"] != "dense" or not row["agrees"]:
                break
            steps = int(row["length"])
        limits.append({"density": density, "steps": steps})
    return limits


def _read_entry(entry: dict[str, Any]) -> Switch:
    """The limits of an entry; a manifest can come from anybody, so nothing in it is taken for granted."""
    limits = []
    rows = entry.get("dense_up_to")
    for row in rows if isinstance(rows, list) else []:
        density, steps = (row.get("density"), row.get("steps")) if isinstance(row, dict) else (0, None)
        is_density = density is None or (isinstance(density, (int, float)) and not isinstance(density, bool))
        if not is_density or not isinstance(steps, int) or isinstance(steps, bool):
            return Switch((), "the bundle's break-even entry is not valid; measure again")
        if steps > 0:
            limits.append((density, steps))
    when = f"measured on this kind of machine, {entry.get('measured')}"
    if not limits:
        return Switch((), f"sparse always: {when}")
    return Switch(tuple(limits), when)


@cache
def _kernels() -> str | None:
    """Which build of the operator library is installed: other kernels, other times."""
    path = get_library_path()
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
