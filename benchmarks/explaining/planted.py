"""Generated windows whose class lies in known steps of known channels, and models that have learned them.

Every window is noise in four channels. One or two patches of it carry the class: a shape (up or down), a
pitch (slow or fast) or a texture (rough or smooth). Another patch, in another channel, is as loud and says
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.series_set import SeriesSet

CHANNELS = ("current", "voltage", "speed", "torque")
STEPS, PATCH = 512, 64
# Steps that a smooth texture is averaged over.
SMOOTHED = 8
KINDS = ("shape", "pitch", "texture")
Signal = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Planted:
    """Windows and where their class lies.

    Attributes:
        data: labeled windows.
        truth: bool [n, channels, steps].
    """

    data: SeriesSet
    truth: npt.NDArray[np.bool_]


def plant(kind: str, count: int, *, patches: int = 1, seed: int) -> Planted:
    """`count` windows of a kind in `KINDS`, the class in `patches` places of one channel."""
    rng = np.random.default_rng([seed, KINDS.index(kind), patches])
    informative = int(np.random.default_rng(KINDS.index(kind)).integers(len(CHANNELS)))
    series, labels = [], []
    truth = np.zeros((count, len(CHANNELS), STEPS), dtype=np.bool_)
    for i in range(count):
        x = 0.3 * rng.standard_normal((len(CHANNELS), STEPS))
        label = int(rng.integers(2))
        for start in _places(rng, patches):
            x[informative, start : start + PATCH] += _patch(kind, label, rng)
            truth[i, informative, start : start + PATCH] = True
        other = (informative + 1 + int(rng.integers(len(CHANNELS) - 1))) % len(CHANNELS)
        start = int(rng.integers(STEPS - PATCH))
        x[other, start : start + PATCH] += np.sin(0.5 * np.arange(PATCH) + rng.uniform(0, 6))
        series.append(x.astype(np.float32))
        labels.append(("a", "b")[label])
    return Planted(SeriesSet(series, CHANNELS, np.array(labels), source=f"planted {kind}"), truth)


def _places(rng: np.random.Generator, patches: int) -> list[int]:
    """Starts of patches that do not overlap, anywhere."""
    while True:
        starts = np.sort(rng.integers(0, STEPS - PATCH, patches))
        if patches == 1 or np.diff(starts).min() >= PATCH:
            return [int(s) for s in starts]


def _patch(kind: str, label: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    time = np.arange(PATCH)
    swell = np.hanning(PATCH)
    if kind == "shape":
        return np.asarray((2 * label - 1) * 3.0 * swell)
    if kind == "pitch":
        return np.asarray(2.0 * swell * np.sin((0.2, 0.8)[label] * time + rng.uniform(0, 6)))
    noise = rng.standard_normal(PATCH + SMOOTHED - 1)
    smooth = np.convolve(noise, np.ones(SMOOTHED) / SMOOTHED**0.5, "valid")
    return np.asarray(1.5 * (smooth if label else noise[:PATCH]))
