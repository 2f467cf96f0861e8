"""Unknown windows on sets that packages ship: how well they are told, beside softmax and distance alone.

The model is the default one, trained as `edgesparse train` trains it. Good windows are the test series. Far
ones are zeros, noise, a rail, a tone, and windows of other sets at this one's level and spread. Near ones
are the test series of a class that was left out of training. Two rivals see the same windows: one minus the
largest softmax score, and the distance to the nearest training window in the same features.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.learning.data import SETS as KNOWN_SETS
from benchmarks.learning.data import _sktime, _ucr, load
from edgesparse.config import ModelConfig, RunConfig
from edgesparse.training.data import Windows, to_tensor
from edgesparse.training.evaluation import run_apart
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse.unknown.score import features_of
from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.sensors.input_check import InputCheck, Typical
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.evaluation.unknown import auroc

SETS = (
    "ACSF1",
    "ArrowHead",
    "BasicMotions",
    "CinCECGTorso",
    "CBF",
    "ECGFiveDays",
    "FaceFour",
    "JapaneseVowels",
    "OSULeaf",
    "watch",
)
QUICK_SETS = ("ArrowHead", "BasicMotions", "ECGFiveDays")
SCORES = ("score", "softmax", "distance")
# Series of a set that are used, and windows made of each kind.
MOST_TRAINED, MOST_TESTED, MADE = 600, 250, 60
LEFT_OUT = 4

Array = npt.NDArray[Any]
Make = Callable[[FloatArray, np.random.Generator], Array]


@cache
def read(name: str) -> tuple[SeriesSet, SeriesSet]:
    """Training and test series, a part of each where there are many."""
    if name in KNOWN_SETS:
        training, test = load(name)
    else:
        training, test = (_sktime if name in ("ArrowHead", "BasicMotions", "JapaneseVowels") else _ucr)(
            name
        ).read()
    rng = np.random.default_rng(0)
    test = test.take(np.sort(rng.permutation(len(test))[:MOST_TESTED]))
    return training.take(np.sort(rng.permutation(len(training))[:MOST_TRAINED])), test


def measure_set(name: str) -> dict[str, Any]:
    """AUROC of each score on each kind of windows, the rate refused, and the table of broken sensors."""
    training, test = read(name)
    told = _Told(training)
    good = told.scores(test)
    base = test.take(np.arange(min(MADE, len(test))))
    far = {kind: told.scores(windows) for kind, windows in far_windows(name, base).items()}
    return {
        "far": {kind: _aurocs(found, good) for kind, found in far.items()},
        "near": _near(training, test),
        "refused": float((good["score"] > 1).mean()),
        "table": {kind: told.answered(windows) for kind, windows in broken_windows(base).items()},
        "good table": told.answered(test),
    }


class _Told:
    """A trained model, and what it says of windows."""

    def __init__(self, training: SeriesSet) -> None:
        with tempfile.TemporaryDirectory() as folder:
            config = RunConfig(model=ModelConfig(layers=0))
            self.run: Run = train(training, config, Path(folder) / "run", quiet=True)
        self.known = self._features(training)
        typical = [None if t is None else Typical(**t) for t in self.run.facts.typical]
        self.check = InputCheck(training.channels, typical, self.run.order)

    def scores(self, data: SeriesSet) -> dict[str, Array]:
        """Per window, each score; the higher, the less known."""
        features = self._features(data)
        assert self.run.unknown is not None
        with torch.no_grad():
            unknown = self.run.unknown(features).numpy()
            assert self.run.model.skip is not None
            logits = features @ self.run.model.skip.weight.mT + self.run.model.skip.bias
            softmax = 1 - logits.softmax(-1).amax(-1).numpy()
        return {
            "score": unknown,
            "softmax": softmax,
            "distance": torch.cdist(features, self.known).amin(-1).numpy(),
        }

    def answered(self, data: SeriesSet) -> float:
        """Share of windows that are called unknown, or whose sensor fault is named."""
        unknown = self.scores(data)["score"] > 1
        faulty = [bool(self.check.check(window)) for window in data.series]
        return float((unknown | np.array(faulty)).mean())

    def _features(self, data: SeriesSet) -> torch.Tensor:
        windows = Windows(*to_tensor(data))
        return run_apart(self.run.model, windows, lambda x: features_of(self.run.model, x))


def _near(training: SeriesSet, test: SeriesSet) -> dict[str, float]:
    """Mean AUROC over some classes, each left out of training; {} of two classes."""
    assert training.labels is not None and test.labels is not None
    classes = np.unique(training.labels)
    if len(classes) < 3:
        return {}
    found = []
    for left in classes[np.unique(np.linspace(0, len(classes) - 1, LEFT_OUT).astype(int))]:
        unseen = np.asarray(test.labels) == left
        if unseen.sum() < 3:
            continue
        scores = _Told(training.take(np.flatnonzero(np.asarray(training.labels) != left))).scores(test)
        found.append(
            _aurocs({k: v[unseen] for k, v in scores.items()}, {k: v[~unseen] for k, v in scores.items()})
        )
    return {name: float(np.mean([one[name] for one in found])) for name in SCORES}


def _aurocs(high: dict[str, Array], low: dict[str, Array]) -> dict[str, float]:
    return {name: auroc(high[name], low[name]) for name in SCORES}


def far_windows(name: str, base: SeriesSet) -> dict[str, SeriesSet]:
    """Windows far from all of a set's."""
    kinds: dict[str, Make] = {
        "zeros": lambda x, rng: np.zeros_like(x),
        "noise x 100": lambda x, rng: 100 * np.nanstd(x) * rng.standard_normal(x.shape),
        "rail": lambda x, rng: np.full_like(x, 1e6),
        "sine": _sine,
        "other sets": _Others(name),
    }
    return {kind: _make(base, make) for kind, make in kinds.items()}


def broken_windows(base: SeriesSet) -> dict[str, SeriesSet]:
    """The windows that a newcomer tried (docs/guides/operate.md, "Unknown windows")."""
    kinds: dict[str, Make] = {
        "zeros": lambda x, rng: np.zeros_like(x),
        "all missing": lambda x, rng: np.full_like(x, np.nan),
        "dead sensor": _dead,
        "stuck sensor": _stuck,
        "noise x 100": lambda x, rng: 100 * np.nanstd(x) * rng.standard_normal(x.shape),
        "rail": lambda x, rng: np.full_like(x, 1e6),
        "sine": _sine,
    }
    if len(base.channels) > 1:
        kinds["swapped channels"] = _swapped
    return {kind: _make(base, make) for kind, make in kinds.items()}


def _make(base: SeriesSet, make: Make) -> SeriesSet:
    rng = np.random.default_rng(0)
    return base.with_series([np.asarray(make(x, rng), dtype=np.float32) for x in base.series], labels=None)


def _sine(x_CT: FloatArray, rng: np.random.Generator) -> Array:
    steps = x_CT.shape[1]
    wave = np.sin(2 * np.pi * rng.uniform(3, 20) * np.arange(steps) / steps + rng.uniform(0, 6))
    middle, spread = (f(x_CT, axis=1, keepdims=True) for f in (np.nanmean, np.nanstd))
    return np.asarray(middle + 1.4 * spread * wave)


def _dead(x_CT: FloatArray, rng: np.random.Generator) -> Array:
    """One channel stands at its mean."""
    x = x_CT.copy()
    x[rng.integers(len(x))] = np.nanmean(x_CT)
    return x


def _stuck(x_CT: FloatArray, rng: np.random.Generator) -> Array:
    """One channel keeps the value that it has after a quarter."""
    x, channel, since = x_CT.copy(), rng.integers(len(x_CT)), x_CT.shape[1] // 4
    x[channel, since:] = x[channel, since]
    return x


def _swapped(x_CT: FloatArray, rng: np.random.Generator) -> Array:
    x = x_CT.copy()
    a, b = rng.permutation(len(x))[:2]
    x[[a, b]] = x[[b, a]]
    return x


class _Others:
    """Windows of the other sets, stretched to this length, at this level and spread."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(0)
        self.windows = [
            one.series[i]
            for other in SETS
            if other != name
            for one in (read(other)[1],)
            for i in rng.permutation(len(one))[:8]
        ]

    def __call__(self, x_CT: FloatArray, rng: np.random.Generator) -> Array:
        other = np.nan_to_num(self.windows[rng.integers(len(self.windows))])
        channels, steps = x_CT.shape
        places = np.linspace(0, other.shape[1] - 1, steps)
        rows = other[rng.integers(0, len(other), channels)]
        y = np.stack([np.interp(places, np.arange(other.shape[1]), row) for row in rows])
        y = (y - y.mean(axis=1, keepdims=True)) / (y.std(axis=1, keepdims=True) + 1e-9)
        middle, spread = (f(x_CT, axis=1, keepdims=True) for f in (np.nanmean, np.nanstd))
        return np.asarray(y * spread + middle)
