"""Our models as a person gets them: `edgesparse train`, `export` and `run` on files.

Shapes: `n` series, `C` channels, `T` steps, `H` steps forecast.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.regression_forecasting.forecasting_sets import ForecastingSet
from benchmarks.regression_forecasting.regression_sets import Part
from edgesparse_runtime.arrays import DoubleArray, FloatArray

# Ours: what `train` gives without `--model`, and its two sizes for regression.
MODELS: dict[str, tuple[str, ...]] = {
    "default": (),
    "small": ("--model", "small"),
    "full": ("--model", "full"),
    "transformer": ("--attention", "sparse"),
}


def regress(model: str, training: Part, test: Part, seed: int) -> tuple[DoubleArray, float]:
    """Predictions [n] of the test series, and seconds to train."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = _write(folder / "train.npz", X=training.X, y=training.y, group=training.groups)
        past = _write(folder / "test.npz", X=test.X)
        scores, seconds = _train_and_run(folder, data, past, ["--task", "regression", *MODELS[model]], seed)
    return scores[:, 0], seconds


def forecast(model: str, data: ForecastingSet, seed: int) -> tuple[DoubleArray, float]:
    """Forecasts [n, H] from the tested places, and seconds to train."""
    windows, names = data.windows()
    past = np.stack([origin.past[-data.past :] for origin in data.origins])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = _write(folder / "train.npz", X=windows[:, None], group=np.array(names))
        tested = _write(folder / "test.npz", X=past[:, None])
        options = ["--task", "forecasting", "--horizon", str(data.horizon), *MODELS[model]]
        return _train_and_run(folder, training, tested, options, seed)


def _train_and_run(
    folder: Path, training: Path, test: Path, options: list[str], seed: int
) -> tuple[DoubleArray, float]:
    run, bundle, out = folder / "run", folder / "model.edgesparse", folder / "out.json"
    start = time.monotonic()
    threads = ["--set", "training.threads=1"]
    _edgesparse("train", training, "-o", run, "--seed", seed, *threads, *options)
    seconds = time.monotonic() - start
    _edgesparse("export", run, "-o", bundle)
    # 3: a test window that looks like a dead sensor; it is predicted all the same.
    _edgesparse("run", bundle, test, "-o", out, "--threads", 1, allowed=(0, 3))
    rows = json.loads(out.read_text(encoding="utf-8"))["predictions"]
    return np.array([list(row["scores"].values()) for row in rows], dtype=np.float64), seconds


def _edgesparse(*arguments: object, allowed: tuple[int, ...] = (0,)) -> None:
    command = [sys.executable, "-m", "edgesparse_runtime.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in allowed:
        raise SystemExit(f"edgesparse {arguments[0]} failed: {done.stderr.strip()[-500:]}")


def _write(path: Path, X: DoubleArray | FloatArray, **more: object) -> Path:
    np.savez(path, X=X.astype(np.float32), **more)  # type: ignore[arg-type]
    return path
