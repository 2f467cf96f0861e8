"""`fit_head`: a head in closed form that shrinks to the one that there is.

Let L be the present head's logits and Y the classes as 0 and 1, both centered. With the scale s that brings
s L closest to Y, the head's change D minimizes the weighted sum of |Y - s L - F D|^2 + penalty |D|^2 over
features F with a column of ones. With a large penalty the decisions stay as they are; with none it is least
squares on the new data alone. The penalty is the one with the smallest error on groups that were left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray, IndexArray
from edgesparse_runtime.operation.update.head import Head

# In units of the features' mean weight.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e9)
FOLDS = 5
_TEMPERATURES = np.exp(np.linspace(np.log(0.01), np.log(10), 200))


@dataclass(frozen=True)
class Examples:
    """Windows that a head is fitted on.

    Attributes:
        features: [n, features].
        targets: number of the class, [n].
        weights: [n]; old and new data weigh the same together.
        folds: number of the part of each; one group lies in one part.
    """

    features: DoubleArray
    targets: IndexArray
    weights: DoubleArray
    folds: IndexArray

    def take(self, rows: npt.NDArray[np.bool_]) -> Examples:
        return Examples(self.features[rows], self.targets[rows], self.weights[rows], self.folds[rows])


def fit_head(examples: Examples, before: Head) -> tuple[Head, float]:
    """The head, and its penalty; probabilities are calibrated on examples that were left out."""
    logits = left_out_logits(examples, before)
    errors = [_loss(found, examples) for found in logits]
    # Of equals the larger penalty, which changes less.
    best = max(range(len(errors)), key=lambda i: (-round(errors[i], 9), i))
    (weight, bias) = _solve(examples, before, (PENALTIES[best],))[0]
    scale = 1 / _temperature(logits[best], examples)
    return Head(scale * weight, scale * bias), PENALTIES[best]


def cross_fit(examples: Examples, before: Head) -> DoubleArray:
    """Logits of every example by a head fitted, penalty included, on the other folds."""
    found = np.zeros((len(examples.targets), len(before.bias)))
    for fold in np.unique(examples.folds):
        out = examples.folds == fold
        kept = examples.take(~out)
        head = before if len(np.unique(kept.folds)) < 2 else fit_head(kept, before)[0]
        found[out] = head.logits(examples.features[out])
    return found


def left_out_logits(examples: Examples, before: Head) -> list[DoubleArray]:
    """Per penalty, the logits of every example by a head of the other folds."""
    found = [np.zeros((len(examples.targets), len(before.bias))) for _ in PENALTIES]
    for fold in np.unique(examples.folds):
        out = examples.folds == fold
        heads = _solve(examples.take(~out), before, PENALTIES)
        for logits, (weight, bias) in zip(found, heads, strict=True):
            logits[out] = examples.features[out] @ weight.T + bias
    return found


def folds_of(groups: Sequence[str] | npt.NDArray[np.str_], targets: IndexArray) -> IndexArray:
    """A fold per example: whole groups, or every fifth of a class where each group has one example."""
    groups = np.asarray(groups)
    names, member = np.unique(groups, return_inverse=True)
    found = np.zeros(len(groups), dtype=np.int64)
    if len(names) == len(groups):
        for target in np.unique(targets):
            rows = np.flatnonzero(targets == target)
            found[rows] = np.arange(len(rows)) % FOLDS
        return found
    # The largest first, each to the smallest fold.
    sizes = np.zeros(FOLDS)
    for i in np.argsort(-np.bincount(member), kind="stable"):
        fold = int(sizes.argmin())
        found[member == i] = fold
        sizes[fold] += (member == i).sum()
    return found


def _solve(
    examples: Examples, before: Head, penalties: Sequence[float]
) -> list[tuple[DoubleArray, DoubleArray]]:
    """Weight and bias per penalty."""
    w, n = examples.weights, len(examples.targets)
    center = w @ examples.features / w.sum()
    spread = np.sqrt(w @ (examples.features - center) ** 2 / w.sum()) + 1e-6
    x = np.concatenate([(examples.features - center) / spread, np.ones((n, 1))], axis=1)
    classes = len(before.bias)
    y = np.eye(classes)[examples.targets] - 1 / classes
    old = before.logits(examples.features)
    old -= old.mean(axis=1, keepdims=True)
    s = max(float((w[:, None] * y * old).sum() / max((w[:, None] * old * old).sum(), 1e-12)), 1e-3)
    root = np.sqrt(w)[:, None]
    found = []
    for change in _changes(root * x, root * (y - s * old), [penalty * w.sum() for penalty in penalties]):
        slope = change[:-1] / spread[:, None]
        weight = s * (before.weight - before.weight.mean(axis=0)) + slope.T
        bias = s * (before.bias - before.bias.mean()) + change[-1] - center @ slope
        found.append((weight, bias))
    return found


def _changes(x: DoubleArray, y: DoubleArray, penalties: Sequence[float]) -> list[DoubleArray]:
    """Per penalty, the matrix D that minimizes |y - x D|^2 + penalty |D|^2.

    By the smaller of x.T x and x x.T: a small model has thousands of features, and an update some hundred
    windows.
    """
    is_wide = x.shape[1] > x.shape[0]
    values, vectors = np.linalg.eigh(x @ x.T if is_wide else x.T @ x)
    values = np.maximum(values, 0)
    # To the coordinates of the eigenvectors, and back.
    right = vectors.T @ (y if is_wide else x.T @ y)
    back = x.T @ vectors if is_wide else vectors
    return [back @ (right / (values + penalty)[:, None]) for penalty in penalties]


def _loss(logits: DoubleArray, examples: Examples) -> float:
    """Cross entropy at the best temperature."""
    return entropy(logits / _temperature(logits, examples), examples.targets, examples.weights)


def _temperature(logits: DoubleArray, examples: Examples) -> float:
    losses = [entropy(logits / t, examples.targets, examples.weights) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def entropy(logits: DoubleArray, targets: IndexArray, weights: DoubleArray) -> float:
    """Weighted mean cross entropy."""
    return float(weights @ entropies(logits, targets) / weights.sum())


def entropies(logits: DoubleArray, targets: IndexArray) -> DoubleArray:
    """Cross entropy of each example."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets])
