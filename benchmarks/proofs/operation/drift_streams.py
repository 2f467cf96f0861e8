"""Streams that do not change, and a machine of three channels that changes by one standard deviation."""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.stream.monitor.signals import Signals

KINDS = ("AR(1) 0", "AR(1) 0.9", "AR(1) 0.98", "seasonal", "heavy-tailed")
SHIFTS = {
    "level": "level.a",
    "gain": "spread.a",
    "noise": "relation.a~b",
    "lag": "relation.a~b",
    "dropped channel": "spread.b",
    "exchanged channels": "relation.b~c",
    "new class": "top_score",
    "new machine": "level.a",
}
"""Kinds of shift, and the signal that shows each best: the other detectors are given that one alone."""
_SIGNALS = 8
_SEASON = 250
_STEPS = 48


def ar(rho: float, count: int, signals: int, seed: int) -> DoubleArray:
    """Stationary AR(1) of variance 1, [count, signals]."""
    noise = np.random.default_rng(seed).standard_normal((count, signals))
    found, scale = np.empty_like(noise), np.sqrt(1 - rho * rho)
    found[0] = noise[0]
    for t in range(1, count):
        found[t] = rho * found[t - 1] + scale * noise[t]
    return found


def make_stationary(kind: str, count: int, seed: int) -> DoubleArray:
    """One stream that does not change, [count, signals]."""
    if kind.startswith("AR(1)"):
        return ar(float(kind.split()[1]), count, _SIGNALS, seed)
    values = ar(0.5, count, _SIGNALS, seed)
    if kind == "seasonal":
        season: DoubleArray = 1.4 * np.sin(2 * np.pi * np.arange(count) / _SEASON)
        return values + season[:, None]
    heavy: DoubleArray = np.sign(values) * np.expm1(1.5 * np.abs(values))
    return heavy


class Streams:
    """Raw windows of three channels, and the signals that the monitor computes of them.

    Channels a and b share a hum, which c hears more faintly. From window to window, level and loudness of a
    channel wander with a correlation of 0.7. The model is one of two classes, surer on some windows.

    Attributes:
        names: of the signals.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._signals = Signals(("a", "b", "c"), ("x", "y"))
        self.names = self._signals.names

    def carrier(self, shift: str) -> int:
        """The column of the signal that shows a shift best."""
        return self.names.index(SHIFTS[shift])

    def signals(self, count: int, shift: str = "") -> DoubleArray:
        """Signals of the next windows, changed by one standard deviation of the signal that shows it."""
        rng = self._rng
        seeds = rng.integers(0, 1 << 31, 3)
        level = ar(0.7, count, 3, int(seeds[0]))
        loud = np.exp(0.2 * ar(0.7, count, 3, int(seeds[1])))
        sure = ar(0.7, count, 1, int(seeds[2]))[:, 0]
        lag = np.full((count, 1), 0.0)
        noise = 0.3
        if shift == "level":
            level[:, 0] += 1.0
        elif shift == "gain":
            # Loudness has a deviation of a fifth.
            loud[:, 0] *= 1.22
        elif shift == "noise":
            noise = 0.42
        elif shift == "lag":
            lag += 0.45
        elif shift == "new machine":
            level += 1.0
            loud *= 0.85
        elif shift == "new class":
            sure -= 1.0
        phase = rng.uniform(0, 2 * np.pi, (count, 1)) + 0.5 * np.arange(_STEPS)
        hums = [np.sin(phase), np.sin(phase - lag), 0.5 * np.sin(phase + 1.0)]
        windows = np.stack(hums, axis=1) * loud[:, :, None] + level[:, :, None]
        windows += noise * rng.standard_normal((count, 3, _STEPS))
        if shift == "dropped channel":
            windows[:, 1] = level[:, 1:2] + noise * rng.standard_normal((count, _STEPS))
        if shift == "exchanged channels":
            windows = windows[:, [0, 2, 1]]
        top = 1 / (1 + np.exp(-(2 + sure)))
        scores = np.stack([top, 1 - top], axis=1)[np.arange(count)[:, None], self._order(count)]
        return self._signals.of_windows(windows.astype(np.float32), scores.astype(np.float32))

    def _order(self, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        first = self._rng.integers(0, 2, count)
        return np.stack([first, 1 - first], axis=1)
