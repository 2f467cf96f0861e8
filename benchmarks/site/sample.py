"""What the pictures of the documentation show: recordings with a knock in one place, and a sparse model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tests.support.processes import edgesparse

STEPS = 1200
SETTINGS = ("--budget", "0.3", "--epochs", "20", "--seed", "0")


def write_recordings(path: Path, count: int, seed: int) -> Path:
    """A table of `count` recordings of 12 s at 100 Hz: class `knock` has two seconds of knocks somewhere."""
    rng = np.random.default_rng(seed)
    time = np.arange(STEPS) / 100
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["series", "machine", "time [s]", "vibration [g]", "current [A]", "label"])
        for i in range(count):
            knocks, machine = i % 2, i // 2 % 6
            turning = np.sin(2 * np.pi * (2 + 0.1 * machine) * time + rng.uniform(0, 6))
            vibration = 0.5 * turning + rng.normal(0, 0.2, STEPS)
            if knocks:
                begin = int(rng.integers(100, STEPS - 300))
                vibration[begin : begin + 200 : 20] += rng.normal(1.8, 0.3, 10)
            current = 2 + 0.3 * turning + rng.normal(0, 0.1, STEPS)
            label = "knock" if knocks else "ok"
            for row in zip(time, vibration, current, strict=True):
                table.writerow([i, f"fan{machine + 1}", *(f"{x:.3f}" for x in row), label])
    return path


def make_bundle(folder: Path) -> tuple[Path, Path]:
    """The bundle of a sparse transformer, and the recordings that it has not seen."""
    train = write_recordings(folder / "fan_TRAIN.csv", 120, 1)
    test = write_recordings(folder / "fan_TEST.csv", 60, 2)
    bundle = folder / "fan.edgesparse"
    for words in (
        ("train", train, "-o", folder / "run", *SETTINGS),
        ("export", folder / "run", "-o", bundle, "--data", train),
        ("quantize", bundle, "--data", train, "--max-drop", "0.1"),
    ):
        done = edgesparse(*words)
        if done.returncode:
            raise RuntimeError(f"edgesparse {words[0]}: {done.stderr.strip().splitlines()[-1]}")
    return bundle, test
