"""What `auto` chooses without a measurement, beside all that could have run, with an instruction set pinned.

`python -m benchmarks.target.choice FOLDER` prints times by tokens and contender as JSON, on the engine that
the environment pins (`EDGESPARSE_ISA`, `EDGESPARSE_ENGINE`). One thread, one window, bursts interleaved.
The outputs of sparse contenders must agree with those of the function body in float32.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.support.interleaved import find_ratio, time_by_name
from benchmarks.support.settings import QUICK
from benchmarks.target.models import DENSITY, FloatArray, Run, int8_ours, make_model, walks, whole_model
from benchmarks.target.speed import ALLOWED, distance
from edgesparse_runtime.engine import find_engine, register, usual_precision
from edgesparse_runtime.machine.processor import cpu_name
from tests.support.paths import source_environment

TOKENS = (32, 128, 512, 2048) if QUICK else (32, 64, 128, 180, 512, 1024, 2048, 4096)
BODY = "body"
# Seconds that the calls of one contender in one round take.
BURST = 0.03
SECONDS = 2.0 if QUICK else 6.0
PLAIN = "plain onnxruntime's dense"
# The sizes of the model are those for this many tokens; the same file runs every length.
EXAMPLE = 1024


def open_model(path: Path, engine: str, steps_per_block: int) -> Run:
    """One thread; `max_blocks` keeps the same share of blocks at every length."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    register(options, wanted=engine)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    knobs = {knob.name: knob.shape for knob in session.get_overridable_initializers()}

    def run(window: FloatArray) -> FloatArray:
        feeds: dict[str, Any] = {"window": window}
        if "max_blocks" in knobs:
            blocks = -(-window.shape[2] // steps_per_block)
            feeds["max_blocks"] = np.full(knobs["max_blocks"], max(1, round(DENSITY * blocks)), np.int64)
        return np.asarray(session.run(["scores"], feeds)[0])

    return run


def write_models(folder: Path) -> None:
    """The sparse model in both precisions, the dense one, and windows of every length."""
    sparse = whole_model("sparse", EXAMPLE)
    onnx.save(sparse, folder / "sparse float32.onnx")
    onnx.save(int8_ours(sparse), folder / "sparse int8.onnx")
    onnx.save(whole_model("dense", EXAMPLE), folder / "dense float32.onnx")
    model = make_model("sparse", EXAMPLE)
    windows = {str(tokens): walks(model, tokens)[:1].numpy() for tokens in TOKENS}
    arrays: dict[str, Any] = {"steps_per_block": model.block_size * model.patch, **windows}
    np.savez(folder / "windows.npz", **arrays)


def run_burst(run: Run, window: FloatArray, calls: int) -> None:
    """Calls one after the other, as one process with one model makes them: its weights stay in the cache."""
    for _ in range(calls):
        run(window)


def measure_here(folder: Path) -> dict[str, Any]:
    """Every contender at every length, and which of them `auto` is."""
    engine = find_engine()
    kinds = ("native", "body") if engine.isa else ("body",)
    with np.load(folder / "windows.npz") as stored:
        arrays = dict(stored)
    steps = int(arrays.pop("steps_per_block"))
    runs = {
        f"{kind}, {precision}": open_model(folder / f"sparse {precision}.onnx", kind, steps)
        for kind in kinds
        for precision in ("float32", "int8")
    }
    expected = {tokens: runs["body, float32"](window) for tokens, window in arrays.items()}
    wrong = {
        name: max(distance(run(window), expected[tokens]) for tokens, window in arrays.items())
        for name, run in runs.items()
    }
    runs[PLAIN] = open_model(folder / "dense float32.onnx", "body", steps)
    auto = f"{kinds[0]}, {usual_precision(engine.isa)[0]}"
    over = {}
    for tokens, window in arrays.items():
        start = time.perf_counter()
        runs[auto](window)
        calls = max(1, int(BURST / (time.perf_counter() - start)))
        bursts = {name: partial(run_burst, run, window, calls) for name, run in runs.items()}
        times = {name: t / calls for name, t in time_by_name(bursts, seconds=SECONDS).items()}
        over[tokens] = {name: asdict(find_ratio(times[auto], t)) for name, t in times.items()}
    return {
        "cpu": cpu_name(),
        "engine": str(engine),
        "isa": engine.isa,
        "auto": auto,
        "right": {name: d <= ALLOWED[name.split()[-1]] for name, d in wrong.items()},
        "difference": wrong,
        "over": over,
        "load_average": os.getloadavg(),
    }


def measure_pinned(isa: str, folder: Path) -> dict[str, Any]:
    """`measure_here` in a process of its own, with an instruction set pinned, or the function body.

    Models are written to `folder` once.
    """
    if not (folder / "windows.npz").exists():
        write_models(folder)
    pins = {"EDGESPARSE_ISA": "", "EDGESPARSE_ENGINE": "body"}
    if isa != BODY:
        pins = {"EDGESPARSE_ISA": isa, "EDGESPARSE_ENGINE": ""}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.target.choice", str(folder)],
        env={**source_environment(), **pins},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(measure_here(Path(sys.argv[1]))))
