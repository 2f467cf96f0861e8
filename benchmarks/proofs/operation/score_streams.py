"""Generated recordings of scores: correlated from window to window, with stretches of a fault."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.operation.events.timeline import Track
from tests.support.recordings import scored

# Correlation of neighboring windows, and degrees of freedom of the noise (0 = Gaussian).
KINDS = {"correlation 0.5": (0.5, 0), "correlation 0.9": (0.9, 0), "heavy tails": (0.75, 4)}
# Standard deviation of the logits' noise.
SPREAD = 1.5


def make_tracks(kind: str, seed: int, count: int) -> list[Track]:
    """`count` recordings of one kind."""
    return scored.make_tracks(np.random.default_rng([seed, len(kind)]), count, partial(_noise, *KINDS[kind]))


def _noise(correlation: float, freedom: int, rng: np.random.Generator, steps: int) -> npt.NDArray[np.float64]:
    raw = rng.standard_t(freedom, steps + 60) if freedom else rng.standard_normal(steps + 60)
    weights = correlation ** np.arange(60)
    return SPREAD * np.convolve(raw, weights / np.sqrt((weights**2).sum()))[60 : steps + 60]
