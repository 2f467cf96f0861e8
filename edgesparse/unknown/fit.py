"""Fits an `UnknownScore` to training windows, and its threshold to a stated rate of good ones refused.

The threshold is a quantile of what each training window scores without itself and without all windows of its
machine or recording: from the prototypes they are left out by name, from the class regression in closed form
(block-wise PRESS). Series that were held out from training count as they are.

Shapes: `n` windows, `m` features used, `M` prototypes, `K` classes, `R` the rank of the windows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgesparse.unknown.score import BASE, UnknownScore

DoubleArray = npt.NDArray[np.float64]
# Share of good windows that are called unknown.
REFUSED = 0.05
FEATURES, PROTOTYPES = 512, 256
# Fewer have no neighbors to speak of.
FEWEST_WINDOWS = 4
# Windows that the threshold and the class regression are fitted to, at most.
MOST_WINDOWS = 1024
# Of the class regression, as a multiple of the features' mean square per window.
SHRINKAGE = tuple(10.0 ** (x / 2) for x in range(-8, 7))
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class UnknownReport:
    """What the threshold rests on.

    Attributes:
        refused: share of good windows above the threshold.
        windows: that it was set on, each left out.
        groups: machines or recordings that were left out whole; None = windows were left out one by one.
        prototypes: training windows that the score holds.
        features: of the skip that it reads.
    """

    refused: float
    windows: int
    groups: int | None
    prototypes: int
    features: int

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@torch.no_grad()
def fit_unknown(
    known_nF: Tensor,
    targets_n: Tensor,
    classes: int,
    groups_n: npt.NDArray[np.str_] | None,
    held_out_nF: Tensor,
    *,
    refused: float = REFUSED,
) -> tuple[UnknownScore, UnknownReport] | None:
    """The score, and what its threshold rests on; None where too few windows tell nothing.

    Args:
        known_nF: standardized features of the training windows.
        targets_n: class numbers, or with `classes` 0 anything.
        groups_n: machine or recording of each window; None = each is one of its own.
        held_out_nF: features of windows that were not trained on; may be none.
        refused: share of good windows that may be called unknown.
    """
    rows = spread_rows(targets_n, classes).numpy()
    groups = np.arange(len(rows))
    count = None
    if groups_n is not None and len(np.unique(groups_n[rows])) > 1:
        groups = np.unique(groups_n[rows], return_inverse=True)[1]
        count = len(np.unique(groups))
    known = known_nF.double().numpy()[rows]
    index = np.flatnonzero(known.std(axis=0) > LEAST_SPREAD)
    if len(rows) < FEWEST_WINDOWS or not len(index):
        return None
    index = np.sort(np.random.default_rng(0).permutation(index)[:FEATURES])
    part = known[:, index]
    # Rows take classes by turns: the first ones are of all of them.
    prototypes = np.arange(min(PROTOTYPES, len(rows)))
    scale, near = _prototypes(part, prototypes, groups)
    score = UnknownScore(len(index), len(prototypes), classes).eval()
    score.index.copy_(torch.from_numpy(index))
    score.prototype.copy_(torch.from_numpy(part[prototypes]))
    score.scale.copy_(torch.from_numpy(scale))
    corner: DoubleArray = np.zeros(len(rows))
    if classes:
        weight, bias, left_out = _regress(part, np.eye(classes)[targets_n.numpy()[rows]], groups)
        corner = _corner(left_out)
        score.weight.copy_(torch.from_numpy(weight))
        score.bias.copy_(torch.from_numpy(bias))
    found = near * (corner + BASE)
    found = np.concatenate([found[np.isfinite(found)], score(held_out_nF).double().numpy()])
    if not len(found):
        return None
    score.threshold.fill_(threshold_of(found, refused))
    return score, UnknownReport(refused, len(found), count, len(prototypes), len(index))


def threshold_of(scores: DoubleArray, refused: float) -> float:
    """The score that a new good window exceeds with at most this chance, if it is as those of `scores`."""
    place = math.ceil((len(scores) + 1) * (1.0 - refused))
    return float(np.sort(scores)[min(place, len(scores)) - 1])


def spread_rows(targets_n: Tensor, classes: int) -> Tensor:
    """At most `MOST_WINDOWS` rows that the score is fitted to, of every class by turns."""
    classes_n = targets_n.numpy() if classes else np.zeros(len(targets_n))
    order = np.random.default_rng(0).permutation(len(classes_n))
    own = classes_n[order]
    turn = np.zeros(len(order), dtype=np.int64)
    for name in np.unique(own):
        turn[own == name] = np.arange((own == name).sum())
    return torch.from_numpy(order[np.argsort(turn, kind="stable")[:MOST_WINDOWS]])


def _prototypes(
    part_nm: DoubleArray, prototypes: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]
) -> tuple[DoubleArray, DoubleArray]:
    """Scale of each prototype [M], and how near each window is to one of another group [n].

    A prototype's distance to its own nearest neighbor is added to the median of all: the scale of one of a
    tight pair would otherwise be next to nothing. A window is infinitely far where all are of its group.
    """
    chosen = part_nm[prototypes]
    square = (part_nm**2).sum(1)[:, None] + (chosen**2).sum(1) - 2 * part_nm @ chosen.T
    apart = np.sqrt(np.maximum(square, 0.0))
    apart[groups[:, None] == groups[prototypes]] = np.inf
    arm = apart[prototypes].min(axis=1)
    arm[~np.isfinite(arm)] = np.median(arm[np.isfinite(arm)]) if np.isfinite(arm).any() else 1.0
    scale = np.maximum(arm + np.median(arm), LEAST_SPREAD)
    return scale, np.asarray((apart / scale).min(axis=1))


def _regress(
    part_nm: DoubleArray, target_nK: DoubleArray, groups: npt.NDArray[np.int64]
) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Weight [K, m] and bias [K] of a ridge regression; each window's row without its group [n, K]."""
    middle, mean = part_nm.mean(axis=0), target_nK.mean(axis=0)
    x, y = part_nm - middle, target_nK - mean
    square, vectors = np.linalg.eigh(x @ x.T)
    square, projected = np.maximum(square, 0.0), vectors.T @ y
    best: tuple[float, float, DoubleArray] | None = None
    for shrinkage in SHRINKAGE:
        penalty = shrinkage * square.sum() / len(x) + 1e-12
        kept = square / (square + penalty)
        error = _left_out_error(vectors, kept, y - vectors @ (kept[:, None] * projected), groups)
        loss = float(np.square(error).mean())
        if best is None or loss < best[0]:
            best = (loss, penalty, target_nK - error)
    assert best is not None
    _, penalty, left_out = best
    weight = (x.T @ (vectors @ (projected / (square + penalty)[:, None]))).T
    return weight, mean - weight @ middle, left_out


def _left_out_error(
    vectors: DoubleArray, kept: DoubleArray, missed: DoubleArray, groups: npt.NDArray[np.int64]
) -> DoubleArray:
    """Errors of each group by the map without it: (1 - H) error = missed, group by group."""
    n = len(missed)
    if len(np.unique(groups)) == n:
        own = (vectors**2) @ kept + 1 / n
        return np.asarray(missed / np.maximum(1 - own, 1e-6)[:, None])
    error = np.empty_like(missed)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        hat = (vectors[rows] * kept) @ vectors[rows].T + 1 / n
        error[rows] = np.linalg.solve((1 + 1e-6) * np.eye(len(rows)) - hat, missed[rows])
    return error


def _corner(share_nK: DoubleArray) -> DoubleArray:
    square = (share_nK**2).sum(1) - 2 * share_nK.max(1) + 1
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))
