"""Training on windows that stay in their file: what it learns is the same, what it holds is little."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.data import to_windows
from edgesparse.training.evaluation import predict
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.data.readers.forms import npz_windows
from edgesparse_runtime.data.readers.forms.npz_windows import NpzWindows
from tests.support.paths import ROOT, source_environment

SMALL = (
    "training.threads=1",
    "model.layers=0",
    "model.filters=4",
    "model.competing_groups=2",
    "model.dilations=[1,4]",
    "model.thresholds=2",
    "model.patch=8",
)
FULL = (*SMALL[2:], "model.stem=2", "model.layers=1", "model.width=16", "model.num_heads=2")
LEAST = (
    "model.filters=2",
    "model.competing_groups=1",
    "model.dilations=[1]",
    "model.thresholds=1",
    "model.patch=8",
    "model.smoothed=5",
    "model.fixed_scale=false",
)
STEPS_OF_FULL = ("training.threads=1", "training.min_steps=4", "training.max_steps=4")


def write(path: Path, count: int, steps: int, *, shortest: int | None = None, dtype: str = "<f4") -> None:
    """Waves of two speeds in noise."""
    rng = np.random.default_rng(0)
    kind = np.arange(count) % 2
    phase = rng.uniform(0, 6, (count, 1))
    x = np.sin(np.where(kind, 0.5, 0.35)[:, None] * np.arange(steps) + phase)
    x = (x + rng.standard_normal((count, steps))).astype(dtype)
    if shortest is not None:
        x[np.arange(steps) >= rng.integers(shortest, steps + 1, (count, 1))] = np.nan
    np.savez(path, X=x[:, None], y=np.where(kind, "fast", "slow"))


def trained(path: Path, out: Path, overrides: tuple[str, ...]) -> Run:
    config = resolve_config(RunConfig(), None, list(overrides))
    return train(read_dataset(path), config, out, quiet=True)


@pytest.mark.parametrize("shortest", [None, 60])
@pytest.mark.parametrize("overrides", [SMALL, FULL + STEPS_OF_FULL], ids=["small", "full"])
def test_a_stored_set_trains_the_model_that_memory_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], shortest: int | None
) -> None:
    path = tmp_path / "x.npz"
    write(path, 1040, 120, shortest=shortest)
    data = read_dataset(path)
    whole = trained(path, tmp_path / "whole", overrides)
    monkeypatch.setattr(npz_windows, "LARGE", 1)
    assert isinstance(read_dataset(path).series, NpzWindows)
    stored = trained(path, tmp_path / "stored", overrides)
    assert replace(stored.facts, notes=[]) == replace(whole.facts, notes=[])
    assert stored.report["held_out"] == whole.report["held_out"]
    # Noise is drawn window by window, so weights differ by what another draw of it changes.
    scores = [predict(run.model, to_windows(data)).softmax(-1) for run in (whole, stored)]
    assert float((scores[0].argmax(-1) == scores[1].argmax(-1)).float().mean()) > 0.97
    assert float((scores[0] - scores[1]).abs().mean()) < 0.03
    accuracy = whole.report["metrics"]["validation"]["value"]
    assert stored.report["metrics"]["validation"]["value"] == pytest.approx(accuracy, abs=0.03)
    assert stored.report["skip"]["series"] == 936
    assert stored.report["unknown"]["prototypes"] == whole.report["unknown"]["prototypes"]


def test_no_more_than_a_few_windows_are_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "x.npz", 1040, 120)
    monkeypatch.setattr(npz_windows, "LARGE", 1)
    monkeypatch.setattr(npz_windows, "BLOCK", 100 * 4 * 120)
    data = read_dataset(tmp_path / "x.npz")
    largest = 0
    read = NpzWindows._read

    def counted(self: NpzWindows, rows: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, len(rows))
        return read(self, rows)

    monkeypatch.setattr(NpzWindows, "_read", counted)
    config = resolve_config(RunConfig(), None, [*FULL, *STEPS_OF_FULL])
    train(data, config, tmp_path / "run", quiet=True)
    assert 0 < largest <= 256


MEASURE = """
import json, sys
from pathlib import Path
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.data.readers.forms import npz_windows
from edgesparse.config import RunConfig, resolve_config
from edgesparse.closed_form import fit_in_blocks
from edgesparse.training import data, stem, train as training
from edgesparse.unknown import fit
# What is held of many windows is held of few already.
fit_in_blocks.SAMPLE = fit_in_blocks.NOISY = stem.TRIED_SERIES = training.MEASURED = fit.MOST_WINDOWS = 250
data.MOST_TYPICAL, npz_windows.BLOCK = 250 * 2000, 1 << 20
few, many, folder = sys.argv[1:4]
config = resolve_config(RunConfig(), None, sys.argv[4:])
peaks = []
for path, large in ((few, 1), (many, 1), (many, 1 << 60)):
    npz_windows.LARGE = large
    training.train(read_dataset(path), config, folder + "/" + str(len(peaks)), quiet=True)
    status = Path("/proc/self/status").read_text()
    peaks.append(int(status.split("VmHWM:")[1].split()[0]) << 10)
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process reads its peak from Linux")
def test_memory_does_not_grow_with_the_number_of_windows(tmp_path: Path) -> None:
    few, many = tmp_path / "few.npz", tmp_path / "many.npz"
    write(few, 300, 2000, dtype="<f8")
    write(many, 2000, 2000, dtype="<f8")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(few), str(many), str(tmp_path), *SMALL[:2], *LEAST],
        capture_output=True,
        text=True,
        env=source_environment(OMP_NUM_THREADS="1"),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak_of_few, peak, peak_in_memory = json.loads(done.stdout)
    size = many.stat().st_size
    assert peak - peak_of_few < size, (peak_of_few, peak, peak_in_memory)
    # That the figure can tell: read whole, the same set takes more than twice its own size.
    assert peak_in_memory - peak > 2 * size, (peak_of_few, peak, peak_in_memory)
