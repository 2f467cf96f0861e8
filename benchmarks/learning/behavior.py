"""What training does, as a hash: weights that short default runs end with, to the bit.

Hours of stored results stay valid when the trainer's text changes and its behavior does not: a new option
that is off, a function moved. Five runs cover what a run of the benchmark may meet: sparse and dense, unequal
length, several channels, unequal classes, and enough series to hold some out. On another processor the
bits differ, and results are then valid for the same code only.

A case concerns sets of its kind only: a change of what is held out leaves the results of small sets valid, a
change of how channels come together those of one channel.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgesparse.config import RunConfig, resolve_config
from edgesparse.training.evaluation import evaluate
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet

# Series, channels, shortest and longest, and what differs from the default.
CASES: tuple[tuple[int, int, int, int, tuple[str, ...]], ...] = (
    (40, 1, 400, 400, ()),
    (40, 1, 400, 400, ("model.attention=dense",)),
    (40, 1, 150, 700, ()),
    (40, 3, 150, 700, ("model.summaries=false", "model.window=1")),
    (1040, 1, 24, 24, ()),
)
STEPS = 12
# Of these series and more the last case says something.
LARGE = 500
# Settings whose effect so few steps do not show, by the names that the committed hashes were made with.
LONG_TERM = {
    "epochs": "epochs",
    "steps_at_least": "min_steps",
    "steps_at_most": "max_steps",
    "average_decay": "average_decay",
    "patience": "patience",
}


@cache
def behavior(*, is_large: bool, is_multichannel: bool) -> str:
    """The hash, for training sets of `LARGE` series and more or of several channels, or not; ten seconds."""
    defaults = RunConfig().training
    settings = [(stored, getattr(defaults, name)) for stored, name in LONG_TERM.items()]
    digest = hashlib.sha256(repr(settings).encode())
    threads = torch.get_num_threads()
    for count, channels, shortest, longest, overrides in CASES:
        if (count >= LARGE and not is_large) or (channels > 1 and not is_multichannel):
            continue
        data = _made(count, channels, shortest, longest)
        overridden = ["training.threads=1", "training.budget=0.25", f"training.min_steps={STEPS}"]
        overridden += [f"training.max_steps={max(STEPS, count // 16)}", *overrides]
        config = resolve_config(RunConfig(), None, overridden)
        with tempfile.TemporaryDirectory() as folder:
            run = train(data, config, Path(folder) / "run", quiet=True)
        for name, value in _by_stored_name(run.model.state_dict()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        digest.update(repr(evaluate(run.model, data, run.facts, run.config.training).value).encode())
    torch.set_num_threads(threads)
    return digest.hexdigest()[:12]


def _by_stored_name(weights: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Weights by the names that the committed hashes were made with: a renamed module changes no result."""
    return sorted((name.replace("normalize.", "normalise."), value) for name, value in weights.items())


def _made(count: int, channels: int, shortest: int, longest: int) -> SeriesSet:
    """Waves of two speeds in noise; a third are of the second class."""
    rng = np.random.default_rng(count + channels)
    series, labels = [], []
    for i in range(count):
        steps = np.arange(int(rng.integers(shortest, longest + 1)))
        speed = 0.5 if i % 3 == 0 else 0.3
        x = np.sin(speed * steps + rng.uniform(0, 6, (channels, 1))) + rng.standard_normal(
            (channels, len(steps))
        )
        series.append(x.astype(np.float32))
        labels.append(f"{speed}")
    return SeriesSet(series, tuple(f"c{i}" for i in range(channels)), np.array(labels), source="made")
