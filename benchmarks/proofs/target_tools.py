"""The lines of `make prove-target` about the runner: memory over many runs, start, size, network.

`prove_target.py` takes `CLAIMS` from here.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.support.stored_cases import StoredCases
from benchmarks.target.decisions import make_bundle
from edgesparse_runtime.measure.job import Job
from edgesparse_runtime.measure.worker import run_job
from tests.support.network_attempts import can_isolate, missing_tool, watch

ROOT = Path(__file__).resolve().parents[2]
QUICK = os.environ.get("QUICK") == "1"
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

Line = dict[str, Any]


def measure_soak(bundle: Path) -> dict[str, Any]:
    """Memory over `RUNS` runs of lengths from a quarter of the training windows' up to them."""
    soak = run_job(Job(model=str(bundle), threads=1, seconds=0.5, soak_runs=RUNS)).soak
    assert soak is not None
    return soak.to_dict()


def measure_import(repeats: int = 11) -> dict[str, float]:
    """Milliseconds that importing the runner takes when numpy and onnxruntime are there already."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runtime")}
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
    # Not at the top: that module imports this one.
    from benchmarks.proofs.target import SETTINGS, STORE, code_version, line

    folder = STORE / f"bundles-{'quick' if QUICK else 'full'}-{code_version()}"
    folder.mkdir(parents=True, exist_ok=True)
    bundle = make_bundle(SET, folder, SETTINGS).path
    soaked = store.get(f"soak-{RUNS}", partial(measure_soak, bundle))
    # Quick, and they depend on every file that the wheel holds: measured anew.
    imported, size, network = measure_import(), measure_size(), measure_network(bundle)
    slope, low, high = soaked["slope_mb"], soaked["slope_low"], soaked["slope_high"]
    note = f"MB [{low:.2f}, {high:.2f}], {soaked['lengths'][0]} to {soaked['lengths'][1]} steps"
    lines = [
        line(f"memory over {RUNS:,} runs", slope, f"< {MOST_SLOPE_MB:g} MB", high < MOST_SLOPE_MB, note),
        line(
            "import beyond onnxruntime's own",
            imported["median"],
            f"< {MOST_IMPORT_MS:g} ms",
            imported["median"] < MOST_IMPORT_MS,
            f"ms, slowest {imported['most']:.0f}",
        ),
        line(
            "base install beyond numpy and onnxruntime",
            size["installed"],
            f"< {MOST_SIZE_MB:g} MB",
            size["installed"] < MOST_SIZE_MB,
            f"MB, download {size['download']:.2f}",
        ),
    ]
    if "missing" in network:
        return [*lines, line("connections attempted", 0, "0", False, f"not watched: {network['missing']}")]
    control = network["control"]
    seen = "no control: no namespace" if control is None else f"{control} with telemetry on"
    quiet = network["calls"] == 0 and network["files"] == 0
    return [*lines, line("connections attempted", network["calls"], "0", quiet, f"({seen})")]


CLAIMS = [runner]


def main() -> int:
    """These lines alone: `python -m benchmarks.proofs.target_tools`."""
    from benchmarks.proofs.target import STORE, code_version
    from benchmarks.support.machine import describe_machine

    machine = describe_machine()
    store = StoredCases(STORE, code_version(), machine["cpu"], QUICK)
    lines = [entry for claim in CLAIMS for entry in claim(store)]
    print(json.dumps({"machine": machine, "lines": lines}))
    return 0 if all(entry["passed"] is not False for entry in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
