"""Small data with a known answer, and a model small enough to learn it in seconds."""

from __future__ import annotations

import numpy as np

from edgesparse.config import ModelConfig, RunConfig, TrainingConfig
from edgesparse_runtime.data.series_set import SeriesSet

# Small enough to train in seconds, large enough to be sparse: 600 steps are 75 tokens or 10 blocks.
TINY_MODEL = ModelConfig(
    width=16, layers=2, num_heads=2, filters=8, patch=8, dilations=(1, 4), thresholds=2, block_size=8
)


def make_series(
    count: int = 36, *, channels: int = 2, steps: int = 600, unequal: bool = False, seed: int = 0
) -> SeriesSet:
    """Two classes that differ in frequency; every third series is shorter when `unequal`."""
    rng = np.random.default_rng(seed)
    series, labels = [], []
    for i in range(count):
        length = steps - (steps // 4 if unequal and i % 3 == 0 else 0)
        time = np.arange(length)
        kind = i % 2
        wave = np.sin(time * (0.15 if kind else 0.4) + rng.uniform(0, 6, (channels, 1)))
        series.append((wave + 0.2 * rng.standard_normal((channels, length))).astype(np.float32))
        labels.append("slow" if kind else "fast")
    names = ("current", "voltage", "speed", "torque")[:channels]
    return SeriesSet(series, names, np.array(labels), source="synthetic")


def tiny_config(**training: object) -> RunConfig:
    settings: dict[str, object] = {
        "epochs": 20,
        "budget": 0.5,
        "batch_size": 8,
        "learning_rate": 5e-3,
        **training,
    }
    return RunConfig(model=TINY_MODEL, training=TrainingConfig(**settings))  # type: ignore[arg-type]
