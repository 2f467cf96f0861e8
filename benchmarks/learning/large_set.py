"""100,000 windows of 1,000 steps, trained on through the command line while they stay in their file.

`python -m benchmarks.learning.large_set` makes the data, trains the default (or what options of `train` after
`--` select), exports, and evaluates on new windows; it prints the size of the data, the trainer's seconds and
peak resident memory, and the accuracy. The made task: which of four bursts, a tenth of the window long and at
any place, lies in noise that is stronger than it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.support.machine import describe_machine

WINDOWS, NEW_WINDOWS, STEPS, BURST = 100_000, 4_000, 1_000, 100
# Rates of the bursts' first and last steps, in radians per step.
BURSTS = ((0.3, 0.3), (0.6, 0.6), (0.3, 0.6), (0.6, 0.3))
# Peak height over the noise's standard deviation; windows that are made at once.
HEIGHT, BLOCK = 1.8, 1_000


def make_block(rng: np.random.Generator, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Windows [count, 1, STEPS] and which burst each holds."""
    kinds = rng.integers(0, len(BURSTS), count)
    windows = rng.standard_normal((count, 1, STEPS)).astype(np.float32)
    shape = np.hanning(BURST) * HEIGHT
    for window, kind in zip(windows, kinds, strict=True):
        phase = rng.uniform(0, 2 * np.pi) + np.cumsum(np.linspace(*BURSTS[kind], BURST))
        start = int(rng.integers(0, STEPS - BURST))
        window[0, start : start + BURST] += (shape * np.sin(phase)).astype(np.float32)
    return windows, kinds


def write_set(path: Path, count: int, seed: int) -> None:
    """A .npz archive as `numpy.savez` writes it, block by block."""
    rng = np.random.default_rng(seed)
    kinds = []
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, 1, STEPS)}
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("X.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for first in range(0, count, BLOCK):
                windows, found = make_block(rng, min(BLOCK, count - first))
                stream.write(windows.tobytes())
                kinds.append(found)
        with archive.open("y.npy", "w") as stream:
            np.lib.format.write_array(stream, np.concatenate(kinds))


def edgesparse(*arguments: str) -> tuple[str, dict[str, int]]:
    """Run the command line; its output, and seconds, seconds of the processor and peak resident megabytes."""
    start = time.monotonic()
    command = [sys.executable, "-m", "edgesparse_runtime.cli", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    output = child.stdout.read()
    child.stdout.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"edgesparse {arguments[0]} ended with exit code {child.returncode}")
    return output, {
        "seconds": round(time.monotonic() - start),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime),
        "peak_mb": round((usage.ru_maxrss << 10) / 1e6),
    }


def measure(folder: Path, windows: int, options: Sequence[str]) -> dict[str, Any]:
    """Make the data, train, export and evaluate."""
    training, new = folder / "training.npz", folder / "new.npz"
    write_set(training, windows, seed=0)
    write_set(new, NEW_WINDOWS, seed=1)
    run, bundle = str(folder / "run"), str(folder / "model.edgesparse")
    printed, cost = edgesparse("train", str(training), "-o", run, "--json", *options)
    report = json.loads(printed)
    edgesparse("export", run, "-o", bundle)
    found = json.loads(edgesparse("evaluate", bundle, str(new), "--json")[0])
    return {
        "windows": windows,
        "steps": STEPS,
        "data_mb": round(training.stat().st_size / 1e6),
        "options": list(options),
        **cost,
        "features": report.get("skip", {}).get("features"),
        "accuracy": found["metrics"]["accuracy"],
        "load": round(os.getloadavg()[1], 1),
        "machine": describe_machine(2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("options", nargs="*", help="of `edgesparse train`, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), arguments.windows, arguments.options), indent=2))


if __name__ == "__main__":
    main()
