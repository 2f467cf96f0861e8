"""A forecaster's linear look at the latest steps, in closed form: where its training starts.

Ridge regression from the normalized recent steps to the normalized next ones, so that the transformer learns
what a linear model leaves. The shrinkage is that of the least absolute error on the last fifth of the windows
by the map of the others: windows that follow each other overlap, so that leaving out one tells nothing.

Shapes: `n` windows, `R` recent steps, `H` steps forecast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesparse.closed_form.ridge import SHRINKAGE
from edgesparse.model.forecaster import Forecaster

# Windows that the shrinkage is chosen on.
TRIED = 0.2
# Normalized values beyond are those of windows that hardly moved: one of them would outweigh all others.
LARGEST = 10.0


@torch.no_grad()
def fit_recent(model: Forecaster, recent_nR: Tensor, next_nH: Tensor) -> float:
    """Set the linear part to the ridge solution, and the transformer's part to nothing.

    Args:
        recent_nR, next_nH: normalized, in the order in which they were recorded.

    Returns:
        The shrinkage that was chosen.
    """
    x, y = recent_nR.double(), next_nH.double().clamp(-LARGEST, LARGEST)
    first = max(1, len(x) - round(TRIED * len(x)))
    errors = [
        float((_predict(x[first:], *_solve(x[:first], y[:first], value)) - y[first:]).abs().mean())
        for value in SHRINKAGE
    ]
    chosen = SHRINKAGE[min(range(len(errors)), key=errors.__getitem__)] if first < len(x) else 1.0
    weight, bias = _solve(x, y, chosen)
    model.project_recent.weight.copy_(weight.mT)
    nn.init.zeros_(model.head.weight)
    model.head.bias.copy_(bias)
    return chosen


def _solve(x_nR: Tensor, y_nH: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Weight [R, H] and bias [H]; the shrinkage is a multiple of the mean square of a step."""
    middle, mean = x_nR.mean(0), y_nH.mean(0)
    x, y = x_nR - middle, y_nH - mean
    gram = x.mT @ x
    # Of steps that are all 0, what a flat line gives, the weight is 0.
    unit = float(gram.diagonal().mean()) + 1e-12
    gram.diagonal().add_(shrinkage * unit)
    weight = torch.linalg.solve(gram, x.mT @ y)
    return weight, mean - middle @ weight


def _predict(x_nR: Tensor, weight_RH: Tensor, bias_H: Tensor) -> Tensor:
    return x_nR @ weight_RH + bias_H
