"""Lines of `make prove-people` about wheels: what is built, and what ran in fresh environments."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.proofs.lines import Line, line, skip
from benchmarks.support.settings import QUICK
from benchmarks.wheels.build import BUILDS, Entry, build_all
from benchmarks.wheels.fresh import Found, try_wheel
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle
from tests.support.paths import ROOT
from tests.support.synthetic import make_series, tiny_config
from tests.support.tolerances import ENGINES

# Built everywhere; the others need tools that a machine may lack.
NEEDED = ("source", "any machine", "this machine")
IN_QUICK = NEEDED


def prove_wheels() -> tuple[list[Line], list[dict[str, Any]]]:
    """The lines, and the list of wheels with where each was run."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        entries = {entry["what"]: entry for entry in build_all(folder, IN_QUICK if QUICK else tuple(BUILDS))}
        bundle = _make_bundle(folder)
        ran: dict[str, str] = {}
        lines = [
            _compare(folder, entries["any machine"], bundle, ran, name="the pure wheel", native=False),
            _compare(folder, entries["this machine"], bundle, ran, name="the native wheel", native=True),
        ]
        if QUICK:
            lines.append(skip("source, installed without a compiler", "left out", "as the pure wheel"))
        else:
            source = "source, installed"
            lines.append(_compare(folder, entries["source"], bundle, ran, name=source, native=False))
        lines.append(_compare_arm64(entries.get("AArch64"), ran))
    listed = [{**entry, "run": ran.get(what, "not run")} for what, entry in entries.items()]
    return [_list_wheels(listed), *lines], listed


def _make_bundle(folder: Path) -> Bundle:
    """The small bundle of the tests."""
    series = make_series()
    run = train(series, tiny_config(), folder / "run", quiet=True)
    return export_run(run, folder / "tiny.edgesparse", data=series)[0]


def _list_wheels(listed: list[dict[str, Any]]) -> Line:
    built = [entry for entry in listed if entry["file"]]
    figure = "; ".join(
        f"{entry['tag'] or 'source'} {entry['bytes'] / 1e6:.2f} MB, {entry['run']}" for entry in built
    )
    note = "; ".join(f"{entry['what']}: {entry['reason']}" for entry in listed if entry["reason"])
    holds = {entry["what"] for entry in built} >= set(NEEDED)
    return line("wheels, and where each was run", holds, figure, "source, native and pure are built", note)


def _compare(
    folder: Path, entry: Entry, bundle: Bundle, ran: dict[str, str], *, name: str, native: bool
) -> Line:
    """A wheel predicts in an environment of its own; one without kernels, where no compiler can be found."""
    where = "in a fresh environment" + ("" if native else " without a compiler")
    target = (
        "native kernels" if native else "function body, doctor says what is missed"
    ) + ", scores within 1e-4"
    if not entry["file"]:
        return line(f"{name} {where}", False, entry["reason"], target)
    try:
        found = try_wheel(
            folder / entry["file"],
            bundle,
            folder / f"env {entry['what']}",
            hides_compilers=not native,
            relative=ENGINES.relative,
            absolute=ENGINES.absolute,
        )
    except RuntimeError as error:
        return line(f"{name} {where}", False, str(error).splitlines()[-1][:200], target)
    ran[entry["what"]] = f"run here {where}"
    figure = f"{found['engine'].split(' (')[0]}, largest difference {found['difference']:.1e}"
    note = f"compilers that could be started: {', '.join(found['compilers']) or 'none'}" if not native else ""
    return line(f"{name} {where}", _holds(found, native=native), figure, target, note)


def _holds(found: Found, *, native: bool) -> bool:
    is_native = found["engine"].startswith("native")
    missed = any("no native kernels" in advice for advice in found["advice"])
    # Where kernels are slower than the function body, as the scalar ones are, a session runs the latter.
    right_engine = is_native or "scalar" in found["engine"] if native else not is_native
    return found["close"] and right_engine and missed != native and (native or not found["compilers"])


def _compare_arm64(entry: Entry | None, ran: dict[str, str]) -> Line:
    """The operator's cases under an emulated AArch64 Python, against float64 and this machine's bits."""
    name, target = "the AArch64 wheel under an emulated Python", "every case agrees, native (neon)"
    if entry is None:
        return skip(name, "left out", target)
    command = [sys.executable, "-m", "tests.kernels.arm64_wheel"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        ran["AArch64"] = "run under qemu-user here"
    said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[-1]
    return line(name, done.returncode == 0, said[:200], target)
