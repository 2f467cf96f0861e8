"""Probability calibration: one temperature, fitted on series that the weights never saw.

The logits are divided by a temperature before the softmax (Guo et al. 2017), in the exported graph too; no
decision changes. It is fitted on held-out series or, where labels are too few to hold any out, on
cross-fitted logits (`edgesparse.training.cross_fit`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

BINS = 10
# Fewer series do not determine a temperature.
FEWEST = 20
HIGHEST = 20.0


@dataclass(frozen=True)
class Temperature:
    """The temperature and its effect, measured on halves that it was not fitted on.

    Attributes:
        value: what logits are divided by; fitted on all the series.
        fitted_on: "held-out" or "cross-fitted".
        n: series.
        error_before: expected calibration error of the plain softmax, `BINS` bins of equal width.
        error_after: the same with the temperature of the other half.
        loss_before: cross entropy, and
        loss_after: with the temperature of the other half.
    """

    value: float
    fitted_on: str
    n: int
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def fit_temperature(logits_NK: Tensor, targets_N: Tensor, fitted_on: str) -> Temperature | None:
    """Fit a temperature and measure it by two-fold cross-validation; None where there are too few series."""
    n = len(targets_N)
    if n < FEWEST:
        return None
    logits, after = logits_NK.double(), torch.empty_like(logits_NK, dtype=torch.float64)
    # Every second series: neighbors in a file may be of one kind, so halves cut in the middle may differ.
    halves = torch.arange(n) % 2
    for half in (0, 1):
        temperature = best_temperature(logits[halves != half], targets_N[halves != half])
        after[halves == half] = logits[halves == half] / temperature
    return Temperature(
        value=best_temperature(logits, targets_N),
        fitted_on=fitted_on,
        n=n,
        error_before=expected_calibration_error(logits, targets_N),
        error_after=expected_calibration_error(after, targets_N),
        loss_before=float(cross_entropy(logits, targets_N)),
        loss_after=float(cross_entropy(after, targets_N)),
    )


def best_temperature(logits_NK: Tensor, targets_N: Tensor) -> float:
    """The temperature, from 1/20 to 20, with the least cross entropy.

    Cross entropy is convex in the inverse temperature: golden-section search finds its only minimum.
    """
    ratio = (math.sqrt(5) - 1) / 2
    low, high = 1 / HIGHEST, HIGHEST

    def loss(sharpness: float) -> float:
        return float(cross_entropy(logits_NK.double() * sharpness, targets_N))

    for _ in range(60):
        span = ratio * (high - low)
        if loss(high - span) <= loss(low + span):
            high = low + span
        else:
            low = high - span
    return 2 / (low + high)


def expected_calibration_error(logits_NK: Tensor, targets_N: Tensor) -> float:
    """Mean gap between confidence and accuracy, weighted by how many scores fall into each of `BINS` bins."""
    confidence, decided = logits_NK.softmax(-1).max(-1)
    right = (decided == targets_N).double()
    index = (confidence * BINS).long().clamp(max=BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, index, confidence.double() - right)
    return float(gap.abs().sum() / len(targets_N))
