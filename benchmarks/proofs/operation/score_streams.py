"""Generated recordings of scores: correlated from window to window, with stretches of a fault."""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.operation.events.timeline import Track

CLASSES = ("in order", "fault")
# Correlation of neighboring windows, and degrees of freedom of the noise (0 = Gaussian).
KINDS = {"correlation 0.5": (0.5, 0), "correlation 0.9": (0.9, 0), "heavy tails": (0.75, 4)}


def make_tracks(kind: str, seed: int, count: int, steps: int = 3_000) -> list[Track]:
    """`count` recordings of one kind."""
    correlation, freedom = KINDS[kind]
    rng = np.random.default_rng([seed, len(kind)])
    found = []
    for group in range(count):
        labels = np.full(steps, CLASSES[0], dtype="U8")
        at = 200
        while at < steps - 200:
            length = int(rng.integers(30, 120))
            labels[at : at + length] = CLASSES[1]
            at += length + int(rng.integers(200, 500))
        raw = rng.standard_t(freedom, steps + 60) if freedom else rng.standard_normal(steps + 60)
        weights = correlation ** np.arange(60)
        noise = np.convolve(raw, weights / np.sqrt((weights**2).sum()))[60 : steps + 60]
        logit = -3 + 1.5 * noise + 6 * (labels == CLASSES[1])
        fault = 1 / (1 + np.exp(-logit))
        found.append(Track(np.stack([1 - fault, fault], axis=1).astype(np.float32), labels, str(group)))
    return found
