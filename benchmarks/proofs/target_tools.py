"""The lines of `make prove-target` about the runner: memory over many runs, start, size, network.

`target.py` imports `CLAIMS` from here.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.proofs.lines import Line, line
from benchmarks.proofs.target_settings import SETTINGS, bundles_folder
from benchmarks.support.settings import QUICK
from benchmarks.support.stored_cases import StoredCases
from benchmarks.target.decisions import make_bundle
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.worker import run_job
from tests.support.network_attempts import can_isolate, missing_tool, watch
from tests.support.paths import ROOT, source_environment

RUNS = 5_000 if QUICK else 100_000
MOST_SLOPE_MB, MOST_IMPORT_MS, MOST_SIZE_MB = 1.0, 150.0, 5.0
# The smallest of the sets that ship with a package: its model is the one that decisions are measured on.
SET = "ACSF1"
IMPORT = """
import time
import numpy, onnxruntime
start = time.perf_counter()
import edgesparse_runtime
print(1e3 * (time.perf_counter() - start))
"""


def measure_soak(bundle: Path) -> dict[str, Any]:
    """Memory over `RUNS` runs of lengths from a quarter of the training windows' up to them."""
    soak = run_job(Job(model=str(bundle), threads=1, seconds=0.5, soak_runs=RUNS)).soak
    assert soak is not None
    return soak.to_dict()


def measure_import(repeats: int = 11) -> dict[str, float]:
    """Milliseconds that importing the runner takes when numpy and onnxruntime are there already."""
    environment = source_environment()
    times = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=True
        )
        times.append(float(done.stdout))
    return {"median": statistics.median(times), "most": max(times)}


def measure_size() -> dict[str, float]:
    """MB that the wheel takes when installed, and as a download."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(command, capture_output=True, text=True, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            installed = sum(member.file_size for member in archive.infolist())
        return {"installed": installed / 2**20, "download": wheel.stat().st_size / 2**20}


def measure_network(bundle: Path) -> dict[str, Any]:
    """Internet sockets and files of a predicting runner, and of one that is told to send telemetry."""
    if reason := missing_tool():
        return {"missing": reason}
    ours = watch(bundle)
    control = watch(bundle, telemetry_on=True) if can_isolate() else None
    return {
        "calls": len(ours.calls),
        "files": len(ours.files),
        "control": None if control is None else len(control.calls),
    }


def runner(store: StoredCases) -> list[Line]:
    """Every line about the runner."""
    bundle = make_bundle(SET, bundles_folder(), SETTINGS).path
    soaked = store.get(f"soak-{RUNS}", partial(measure_soak, bundle))
    # Quick, and they depend on every file that the wheel holds: measured anew.
    imported, size, network = measure_import(), measure_size(), measure_network(bundle)
    slope, low, high = soaked["slope_mb"], soaked["slope_low"], soaked["slope_high"]
    note = f"MB [{low:.2f}, {high:.2f}], {soaked['lengths'][0]} to {soaked['lengths'][1]} steps"
    lines = [
        line(f"memory over {RUNS:,} runs", high < MOST_SLOPE_MB, slope, f"< {MOST_SLOPE_MB:g} MB", note),
        line(
            "import beyond onnxruntime's own",
            imported["median"] < MOST_IMPORT_MS,
            imported["median"],
            f"< {MOST_IMPORT_MS:g} ms",
            f"ms, slowest {imported['most']:.0f}",
        ),
        line(
            "base install beyond numpy and onnxruntime",
            size["installed"] < MOST_SIZE_MB,
            size["installed"],
            f"< {MOST_SIZE_MB:g} MB",
            f"MB, download {size['download']:.2f}",
        ),
    ]
    if "missing" in network:
        return [*lines, line("connections attempted", False, 0, "0", f"not watched: {network['missing']}")]
    control = network["control"]
    seen = "no control: no namespace" if control is None else f"{control} with telemetry on"
    quiet = network["calls"] == 0 and network["files"] == 0
    return [*lines, line("connections attempted", quiet, network["calls"], "0", f"({seen})")]


CLAIMS = [runner]
