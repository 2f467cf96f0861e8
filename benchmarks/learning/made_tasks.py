"""Made tasks whose answer lies in two places far apart, so that attention within a band cannot give it.

Every token is like thousands of others; only what two distant tokens have in common, or what one says about
the other, decides the class. A bag of tokens holds no answer, nor does any neighborhood, nor do a
window's mean and spread.

match    two marked bursts, each of one of two pitches: same or different?
product  two marked swings, up and down or down and up: is the product of their signs positive? (the adding
         task, with the product in place of the sum, because a sum can be read off a bag of tokens)
recall   two bursts, one of either pitch, each with a sign; at the end one pitch is asked for: which sign?
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.series_set import SeriesSet

Signal = npt.NDArray[np.float32]
BURST = 32
# Two: these tasks ask how far a model sees, not how much it can tell apart.
PITCHES = (0.3, 1.2)
# A plus goes up and then down by the same: a window's mean, which every token is told, would give signs away.
SWING = np.repeat(np.array([1.0, -1.0], dtype=np.float32), BURST // 2)


def make(task: str, steps: int, count: int, *, seed: int) -> SeriesSet:
    """`count` labeled series of `steps` steps."""
    rng = np.random.default_rng([seed, steps, sorted(TASKS).index(task)])
    channels, one = TASKS[task]
    series, labels = [], []
    for _ in range(count):
        x, label = one(rng, steps)
        series.append(x)
        labels.append(label)
    return SeriesSet(series, channels, np.array(labels), source=f"{task}-{steps}")


def _places(rng: np.random.Generator, steps: int, count: int, apart: int) -> npt.NDArray[np.int64]:
    """Starts of `count` bursts on a grid of `BURST` steps, in time order; the first and last far apart."""
    cells = steps // BURST - 1
    while True:
        chosen = np.sort(rng.choice(cells, count, replace=False))
        if (chosen[-1] - chosen[0]) * BURST >= apart:
            return np.asarray(chosen * BURST)


def _match(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    x = 0.1 * rng.standard_normal((2, steps)).astype(np.float32)
    same = rng.random() < 0.5
    pitches = rng.permutation(2)
    if same:
        pitches[1] = pitches[0]
    for start, pitch in zip(_places(rng, steps, 2, 3 * steps // 4), pitches, strict=True):
        x[0, start : start + BURST] += _wave(PITCHES[pitch], BURST, rng)
        x[1, start : start + BURST] += 1.0
    return x, "same" if same else "different"


def _recall(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    x = 0.1 * rng.standard_normal((3, steps)).astype(np.float32)
    pitches, signs = rng.permutation(2), rng.permutation([1.0, -1.0])
    for start, pitch, sign in zip(_places(rng, steps // 4, 2, 0), pitches, signs, strict=True):
        x[0, start : start + BURST] += _wave(PITCHES[pitch], BURST, rng)
        x[1, start : start + BURST] += sign * SWING
    asked = int(rng.integers(2))
    start = steps - 2 * BURST
    x[0, start : start + BURST] += _wave(PITCHES[pitches[asked]], BURST, rng)
    x[2, start : start + BURST] += 1.0
    return x, "plus" if signs[asked] > 0 else "minus"


def _product(rng: np.random.Generator, steps: int) -> tuple[Signal, str]:
    x = 0.1 * rng.standard_normal((2, steps)).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], 2)
    for start, sign in zip(_places(rng, steps, 2, 3 * steps // 4), signs, strict=True):
        x[0, start : start + BURST] += sign * SWING
        x[1, start : start + BURST] += 1.0
    return x, "positive" if signs.prod() > 0 else "negative"


def _wave(pitch: float, steps: int, rng: np.random.Generator) -> Signal:
    wave: Signal = np.sin(pitch * np.arange(steps) + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    return wave


TASKS: dict[str, tuple[tuple[str, ...], Callable[[np.random.Generator, int], tuple[Signal, str]]]] = {
    "match": (("signal", "marked"), _match),
    "product": (("signal", "marked"), _product),
    "recall": (("signal", "sign", "asked"), _recall),
}
