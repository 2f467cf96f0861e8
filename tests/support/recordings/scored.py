"""Generated recordings of scores, with stretches of a fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.operation.events.timeline import Track

CLASSES = ("in order", "fault")

Noise = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def make_tracks(rng: np.random.Generator, count: int, draw_noise: Noise, steps: int = 3_000) -> list[Track]:
    """`count` recordings of `steps` windows.

    Args:
        draw_noise: noise of the logits [steps], drawn anew for each recording.
    """
    found = []
    for group in range(count):
        labels = np.full(steps, CLASSES[0], dtype="U8")
        at = 200
        while at < steps - 200:
            length = int(rng.integers(30, 120))
            labels[at : at + length] = CLASSES[1]
            at += length + int(rng.integers(200, 500))
        logit = -3 + draw_noise(rng, steps) + 6 * (labels == CLASSES[1])
        fault = 1 / (1 + np.exp(-logit))
        found.append(Track(np.stack([1 - fault, fault], axis=1).astype(np.float32), labels, str(group)))
    return found
