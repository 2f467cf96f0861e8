"""`learn`: a head from new and old windows, with what it gains on windows that were left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.operation.update.calibrate import fit_calibration
from edgesparse_runtime.operation.update.head import Head
from edgesparse_runtime.operation.update.known import Domain
from edgesparse_runtime.operation.update.paired import Paired, compare_losses, compare_right
from edgesparse_runtime.operation.update.ridge import Examples, cross_fit, entropies, fit_head


@dataclass(frozen=True)
class Learned:
    """A challenger's head.

    Attributes:
        head: fitted on all windows.
        penalty: on its change; None of a calibration.
        new: the gain on new windows, by heads that did not see the window or its group.
        old: the same of old ones; None without old data.
    """

    head: Head
    penalty: float | None
    new: Paired
    old: Paired | None


def learn(before: Head, examples: Examples, new: Domain, old: Domain | None, mode: str) -> Learned:
    """Fit a head.

    Args:
        before: the champion's.
        examples: of `new` and then `old`.
        mode: "calibrate" or "head".
    """
    if mode == "head":
        head, penalty = fit_head(examples, before)
        after = cross_fit(examples, before)
    else:
        head, penalty = fit_calibration(examples, before), None
        after = _cross_calibrate(examples, before)
    logits = before.logits(examples.features)
    count = len(new)
    # A calibration is for the scores; decisions are what a head is for.
    is_better = _compare_losses if mode == "calibrate" else _compare_right
    return Learned(
        head,
        penalty,
        is_better(new, logits[:count], after[:count]),
        None if old is None else _compare_right(old, logits[count:], after[count:]),
    )


def _cross_calibrate(examples: Examples, before: Head) -> DoubleArray:
    found = np.zeros((len(examples.targets), len(before.bias)))
    for fold in np.unique(examples.folds):
        out = examples.folds == fold
        found[out] = fit_calibration(examples.take(~out), before).logits(examples.features[out])
    return found


def _compare_right(domain: Domain, before: DoubleArray, after: DoubleArray) -> Paired:
    right = (before.argmax(axis=1) == domain.targets, after.argmax(axis=1) == domain.targets)
    return compare_right(*right, domain.clusters)


def _compare_losses(domain: Domain, before: DoubleArray, after: DoubleArray) -> Paired:
    losses = (entropies(before, domain.targets), entropies(after, domain.targets))
    return compare_losses(*losses, domain.clusters)
