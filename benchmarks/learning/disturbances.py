"""What a machine or a sensor may do to a window after training, each at three strengths.

Strengths are shares of a channel's spread over the window, of its length or of its steps; the same seed
disturbs the same way, so all models see the same windows. The default recipe trains on windows disturbed much
like the first five (edgesparse/training/augment.py), and on nothing like the last three.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.series_set import SeriesSet

FloatArray = npt.NDArray[np.float32]
# Sets whose models are tested on disturbed series too: long and short windows, two classes to ten.
DISTURBED_SETS = ("ACSF1", "CinCECGTorso", "FreezerSmallTrain", "Computers")
Disturbance = Callable[[FloatArray, float, np.random.Generator], FloatArray]


def disturb(data: SeriesSet, name: str, strength: float) -> SeriesSet:
    """Every series disturbed."""
    rng = np.random.default_rng(0)
    change, _ = DISTURBANCES[name]
    series = [change(x, strength, rng).astype(np.float32) for x in data.series]
    return SeriesSet(series, data.channels, data.labels, data.groups, data.source)


def _spread(x: FloatArray) -> FloatArray:
    spread: FloatArray = np.nanstd(x, axis=1, keepdims=True)
    return spread


def noise(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    return x + strength * _spread(x) * rng.standard_normal(x.shape).astype(np.float32)


def gain(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    return x * np.float32(1 + strength * rng.choice([-1, 1]))


def offset(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    return x + np.float32(strength * rng.choice([-1, 1])) * _spread(x)


def drift(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """A straight line over the window."""
    line = np.linspace(0, strength * rng.choice([-1, 1]), x.shape[1], dtype=np.float32)
    return x + line * _spread(x)


def dropped_channel(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """A share of the window is missing in one channel: a single sensor never drops out whole."""
    x = x.copy()
    length = int(strength * x.shape[1])
    start = rng.integers(x.shape[1] - length + 1)
    x[rng.integers(len(x)), start : start + length] = np.nan
    return x


def time_warp(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """One half of the window faster, the other slower by the same."""
    length = x.shape[1]
    middle = 0.5 + strength * rng.choice([-1, 1]) / 2
    places = np.interp(np.linspace(0, 1, length), [0, middle, 1], [0, (length - 1) / 2, length - 1])
    return _at(x, places)


def sampling_rate(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """Sampled more slowly by this share, then brought back to the same number of steps."""
    length = x.shape[1]
    coarse = _at(x, np.linspace(0, length - 1, max(2, round(length * (1 - strength)))))
    return _at(coarse, np.linspace(0, coarse.shape[1] - 1, length))


def _at(x: FloatArray, places: npt.NDArray[np.float64]) -> FloatArray:
    steps = np.arange(x.shape[1])
    return np.stack([np.interp(places, steps, channel) for channel in x]).astype(np.float32)


def spikes(x: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """A share of the steps are off by three times the channel's spread, up or down."""
    hit = rng.random(x.shape) < strength
    # One step at least: a spike that nobody sees would be no disturbance.
    hit[:, rng.integers(x.shape[1])] = True
    sign = rng.choice([-1, 1], x.shape).astype(np.float32)
    return x + 3 * _spread(x) * sign * hit


DISTURBANCES: dict[str, tuple[Disturbance, tuple[float, float, float]]] = {
    "noise": (noise, (0.05, 0.1, 0.2)),
    "drift": (drift, (0.2, 0.5, 1.0)),
    "dropped channel": (dropped_channel, (0.1, 0.25, 0.5)),
    "time warp": (time_warp, (0.05, 0.1, 0.2)),
    "sampling rate": (sampling_rate, (0.1, 0.25, 0.5)),
    "gain": (gain, (0.1, 0.2, 0.4)),
    "offset": (offset, (0.1, 0.3, 1.0)),
    "spikes": (spikes, (0.002, 0.01, 0.05)),
}
