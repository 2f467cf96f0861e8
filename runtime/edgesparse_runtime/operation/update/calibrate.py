"""`fit_calibration`: a temperature and an offset per class, on top of the head that there is."""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.operation.update.head import Head
from edgesparse_runtime.operation.update.ridge import Examples, entropy

# Weight of offsets of zero, in examples.
_PRIOR = 5.0
_STEPS = 50


def fit_calibration(examples: Examples, before: Head) -> Head:
    """The head whose logits are scaled and shifted for the smallest cross entropy (Newton's method)."""
    logits = before.logits(examples.features)
    classes = logits.shape[1]
    w = examples.weights / examples.weights.mean()
    y = np.eye(classes)[examples.targets]
    theta = np.concatenate([[1.0], np.zeros(classes)])
    for _ in range(_STEPS):
        p = _softmax(theta[0] * logits + theta[1:])
        error = w[:, None] * (p - y)
        gradient = np.concatenate([[(error * logits).sum()], error.sum(axis=0) + _PRIOR * theta[1:]])
        mean = (p * logits).sum(axis=1, keepdims=True)
        hessian = np.zeros((classes + 1, classes + 1))
        hessian[0, 0] = (w[:, None] * p * (logits - mean) ** 2).sum() + 1e-6
        hessian[0, 1:] = hessian[1:, 0] = (w[:, None] * p * (logits - mean)).sum(axis=0)
        hessian[1:, 1:] = np.diag((w[:, None] * p).sum(axis=0) + _PRIOR) - (w[:, None] * p).T @ p
        step = np.linalg.solve(hessian, gradient)
        theta = _shortened(theta, step, logits, examples)
        if np.abs(step).max() < 1e-8:
            break
    return Head(theta[0] * before.weight, theta[0] * before.bias + theta[1:])


def _shortened(theta: DoubleArray, step: DoubleArray, logits: DoubleArray, examples: Examples) -> DoubleArray:
    """A step as long as it lowers the loss and keeps the order of logits."""

    def loss(at: DoubleArray) -> float:
        if at[0] <= 1e-3:
            return np.inf
        prior = _PRIOR / 2 * float(at[1:] @ at[1:]) / len(examples.targets)
        return entropy(at[0] * logits + at[1:], examples.targets, examples.weights) + prior

    before = loss(theta)
    for _ in range(30):
        if loss(theta - step) <= before:
            return theta - step
        step = step / 2
    return theta


def _softmax(logits: DoubleArray) -> DoubleArray:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
