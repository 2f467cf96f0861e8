"""MiniRocket and our classifier in one loop of scikit-learn's `cross_val_score`."""

from __future__ import annotations

import importlib
import importlib.util
import time
from typing import Any

from benchmarks.proofs.lines import Line, line

FOLDS = 5
# Of accuracy, below MiniRocket's mean.
MOST_BELOW = 0.03


def compare_cross_validation() -> Line:
    """On the 80 recordings of six channels that aeon ships (BasicMotions)."""
    name = "MiniRocket and ours in one cross_val_score loop (BasicMotions, 5 folds)"
    target = f"both finish; ours at most {100 * MOST_BELOW:.0f} points below"
    if importlib.util.find_spec("aeon") is None:
        return line(name, False, "aeon is not installed", target)
    found = {label: (scores.mean(), seconds) for label, scores, seconds in cross_validate()}
    figure = ", ".join(f"{label} {mean:.3f} in {seconds:.1f} s" for label, (mean, seconds) in found.items())
    ours, theirs = found["ours"][0], found["MiniRocket"][0]
    return line(name, bool(ours >= theirs - MOST_BELOW), figure, target)


def cross_validate() -> list[tuple[str, Any, float]]:
    """Name, scores and seconds of each classifier."""
    from sklearn.model_selection import cross_val_score

    from edgesparse.estimators import SparseTransformerClassifier

    rocket = importlib.import_module("aeon.classification.convolution_based").MiniRocketClassifier
    X, y = importlib.import_module("aeon.datasets").load_basic_motions()
    found = []
    for label, model in {"MiniRocket": rocket(random_state=0), "ours": SparseTransformerClassifier()}.items():
        start = time.monotonic()
        found.append((label, cross_val_score(model, X, y, cv=FOLDS), time.monotonic() - start))
    return found
