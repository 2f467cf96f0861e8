"""What changes over a run, as functions of the step: learning rate, attention's compute, augmentation."""

from __future__ import annotations

import math

from edgesparse.config import TrainingConfig

WARM_UP = 0.25
START, END = 1 / 25, 1e-4


def learning_rate(step: int, steps: int, peak: float) -> float:
    """One cycle: cosine up over the first quarter, cosine down to almost nothing (Smith 2018)."""
    up = max(1.0, WARM_UP * steps)
    if step < up:
        return peak * _cosine(START, 1.0, step / up)
    return peak * _cosine(1.0, END, (step - up) / max(1.0, steps - up))


def attention_share(step: int, steps: int, config: TrainingConfig) -> float:
    """Target share of dense attention's compute: dense, then annealed to the budget, then held there."""
    done = step / max(1, steps)
    if done < config.dense_share:
        return 1.0
    if done >= config.anneal_share:
        return config.budget
    return _cosine(
        1.0, config.budget, (done - config.dense_share) / (config.anneal_share - config.dense_share)
    )


def augmented_share(step: int, steps: int, config: TrainingConfig) -> float:
    """Share of the training windows that are augmented: none until attention is at its budget.

    Classes that only two distant places together tell apart are learned late, and with augmentation later
    still.
    """
    return config.augment if step >= config.anneal_share * steps else 0.0


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2
