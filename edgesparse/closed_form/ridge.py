"""A linear map in closed form, its shrinkage chosen by leave-one-out.

Ridge regression to one column per class, or to the target; the left-out predictions of every series come from
one eigendecomposition (Allen's PRESS). As in PreVal (Dempster et al. 2024) the shrinkage, and one factor that
turns predictions into logits, are those of the least leave-one-out log loss, so the probabilities need no
other calibration; for a target they are those of the least squared error.

A series may come in several versions, such as one with noise: they count by weight and are left out together.

Left out, the only series of a class leaves nothing to know the class by: no map names it, and the loss would
call for the map that says least. Such a series has no part in the choice. Where all are such, nothing is left
to choose by, and the shrinkage is `NEUTRAL`.

Shapes: `n` series, `V` versions of each, `F` features, `K` outputs, `R` the smaller of V * n and F.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

# Shrinkage, as a multiple of the features' mean square per row.
SHRINKAGE = tuple(10.0 ** (x / 2) for x in range(-8, 7))
# Factors from a prediction of 0 to 1 to logits.
FACTORS = tuple(0.5 * 1.2**x for x in range(33))
# Chosen on two development sets with one series a class: their accuracy hardly changes from 0.01 to 1, and
# falls at the largest shrinkage, which the loss would choose.
NEUTRAL, NEUTRAL_FACTOR = 0.1, 5.0
# A row that determines its own prediction leaves nothing to predict from.
LEAST_REST = 1e-6


@dataclass(frozen=True)
class Ridge:
    """The map and how well it does on series that it was fitted without.

    Attributes:
        weight: [K, F], and
        bias: [K]; of standardized features.
        left_out: outputs [n, K] of each series' first version by the map that all other series give; the
            shrinkage and the factor are those of all.
        shrinkage: that was chosen.
        loss: leave-one-out log loss with smoothed labels, or squared error, over all versions.
        factor: from predictions to outputs.
    """

    weight: Tensor
    bias: Tensor
    left_out: Tensor
    shrinkage: float
    loss: float
    factor: float


@dataclass(frozen=True)
class Spectrum:
    """Weighted second moments of centered features and targets, decomposed; the rows' weights sum to 1.

    Attributes:
        square: [R], and
        right: [F, R]; squared singular values and singular vectors.
        projected: [R, K], the targets on the left singular vectors.
        middle: [F], mean of the features, and
        mean: [K], of the targets.
        series: n.
    """

    square: Tensor
    right: Tensor
    projected: Tensor
    middle: Tensor
    mean: Tensor
    series: int

    @property
    def unit(self) -> float:
        """The sum of squares is the mean square per row."""
        return float(self.square.sum()) / self.series

    def solve(self, shrinkage: float, factor: float) -> tuple[Tensor, Tensor]:
        """Weight [K, F] and bias [K]."""
        square = self.square
        scale = square.sqrt() / (square + shrinkage * self.unit + 1e-300)
        weight = factor * (self.right @ (self.projected * scale[:, None])).mT
        return weight, factor * self.mean - weight @ self.middle


@dataclass(frozen=True)
class Rows:
    """Rows that leave-one-out is computed on.

    Attributes:
        left: [V * n, R], their left singular vectors.
        root: [V * n, 1], roots of their weights.
        target: [V * n, K].
        versions: V.
    """

    left: Tensor
    root: Tensor
    target: Tensor
    versions: int

    def left_out(self, spectrum: Spectrum, shrinkage: float) -> Tensor:
        """Predictions [V * n, K] by the map that all other series give."""
        kept = spectrum.square / (spectrum.square + shrinkage * spectrum.unit + 1e-300)
        wanted = (self.target - spectrum.mean) * self.root
        missed = wanted - self.left @ (kept[:, None] * spectrum.projected)
        return self.target - _left_out_error(self.left, kept, self.root, missed, self.versions) / self.root


def fit_ridge(features_VnF: Tensor, targets_n: Tensor, classes: int, weights: tuple[float, ...]) -> Ridge:
    """Fit standardized features to class numbers, or with `classes` 0 to numbers.

    Args:
        weights: of the versions.
    """
    versions, n, _ = features_VnF.shape
    targets = targets_n.repeat(versions)
    row_weight = torch.tensor(weights, dtype=torch.float64).repeat_interleave(n)
    x, target = features_VnF.flatten(0, 1).double(), columns(targets, classes)
    share = (row_weight / row_weight.sum())[:, None]
    middle, mean = (share * x).sum(0), (share * target).sum(0)
    root = share.sqrt()
    left, square, right = _decompose((x - middle) * root)
    projected = left.mT @ ((target - mean) * root)
    counted = has_company(targets_n, classes).repeat(versions)
    spectrum = Spectrum(square, right, projected, middle, mean, n)
    return choose(spectrum, Rows(left, root, target, versions), targets, row_weight * counted, classes)


def choose(spectrum: Spectrum, rows: Rows, targets: Tensor, row_weight: Tensor, classes: int) -> Ridge:
    """The map of the shrinkage and the factor whose loss on the rows, each left out, is the least.

    Args:
        targets: of the rows.
        row_weight: that they count by; 0 = they have no part in the choice.
    """
    best: tuple[float, float, float, Tensor] | None = None
    for shrinkage in SHRINKAGE if bool(row_weight.any()) else (NEUTRAL,):
        left_out = rows.left_out(spectrum, shrinkage)
        loss, factor = _loss(left_out, targets, row_weight, classes, spectrum.series)
        if best is None or loss < best[0]:
            best = (loss, shrinkage, factor, left_out)
    assert best is not None
    loss, shrinkage, factor, left_out = best
    weight, bias = spectrum.solve(shrinkage, factor)
    first = left_out[: len(left_out) // rows.versions]
    return Ridge(weight.float(), bias.float(), (first * factor).float(), shrinkage, loss, factor)


def columns(targets: Tensor, classes: int) -> Tensor:
    return one_hot(targets, classes).double() if classes else targets.double().view(len(targets), -1)


def has_company(targets_n: Tensor, classes: int) -> Tensor:
    """Whether a series' class is there without it too; true of every series for a target."""
    if not classes:
        return torch.ones(len(targets_n), dtype=torch.bool)
    return torch.bincount(targets_n, minlength=classes)[targets_n] > 1


def _decompose(x_nF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors [n, R] and [F, R] and squared singular values [R], by the smaller Gram matrix."""
    n, features = x_nF.shape
    square, vectors = torch.linalg.eigh(x_nF @ x_nF.mT if n <= features else x_nF.mT @ x_nF)
    kept = square > square.max() * 1e-12
    square, vectors = square[kept], vectors[:, kept]
    if n <= features:
        return vectors, square, (x_nF.mT @ vectors) / square.sqrt()
    return (x_nF @ vectors) / square.sqrt(), square, vectors


def _left_out_error(left: Tensor, kept: Tensor, root: Tensor, missed: Tensor, versions: int) -> Tensor:
    """Weighted errors of each series by the map without it: (1 - H) error = missed, series by series."""
    rows, columns = missed.shape
    by_series = left.view(versions, -1, left.shape[1])
    weights = root.view(versions, -1)
    # The mean is fitted too.
    hat = torch.einsum("anr,r,bnr->nab", by_series, kept, by_series)
    hat = hat + torch.einsum("an,bn->nab", weights, weights)
    rest = (1.0 + LEAST_REST) * torch.eye(versions, dtype=torch.float64) - hat
    error: Tensor = torch.linalg.solve(rest, missed.view(versions, -1, columns).transpose(0, 1))
    return error.transpose(0, 1).reshape(rows, columns)


def _loss(left_out: Tensor, targets: Tensor, weight: Tensor, classes: int, n: int) -> tuple[float, float]:
    """The least loss over the factors, and its factor.

    The labels are smoothed by one series' worth: a few series that are all right do not make certain.
    """
    total = float(weight.sum())
    if not total:
        return math.log(classes), NEUTRAL_FACTOR
    if not classes:
        error = left_out - targets.double().view_as(left_out)
        return float((weight[:, None] * error.square()).sum()) / total, 1.0
    smoothing = 1.0 / (n + classes)
    losses = []
    for factor in FACTORS:
        each = cross_entropy(factor * left_out, targets, label_smoothing=smoothing, reduction="none")
        losses.append((float((weight * each).sum()) / total, factor))
    return min(losses)
