"""Pictures of a fitted estimator, with matplotlib (extra `plot`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import confusion_matrix

from edgesparse.estimators.errors import InvalidInputError
from edgesparse_runtime.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from edgesparse.estimators.classifier import SparseTransformerClassifier
    from edgesparse.estimators.estimator import SequenceEstimator

# More classes than this are not written into their cells.
MOST_WRITTEN = 20


def plot_learning_curve(estimator: SequenceEstimator, ax: Axes | None = None) -> Axes:
    """Loss by epoch, and where series were held out their metric.

    Args:
        estimator: a fitted transformer; set `validation_share` in `settings` to hold series out.
        ax: to draw on; None = a new figure.

    Raises:
        InvalidInputError: the small model, which has no epochs, or a model from a bundle.
    """
    history = [line for line in estimator.history_ if "loss" in line and "epoch" in line]
    if len(history) < 2:
        raise InvalidInputError(
            "`estimator` must be a transformer trained for 2 epochs or more; "
            f"got {len(history)}. The small model is fitted in one step."
        )
    ax = _axes(ax)
    epochs = [line["epoch"] for line in history]
    ax.plot(epochs, [line["loss"] for line in history], label="training loss")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    metric = next((name for name in history[-1] if name.startswith("validation_")), None)
    if metric is not None:
        right = ax.twinx()
        right.plot(epochs, [line.get(metric, np.nan) for line in history], "C1", label=_words(metric))
        right.set_ylabel(_words(metric))
        right.legend(loc="upper right")
    ax.legend(loc="upper left")
    return ax


def plot_confusion(estimator: SparseTransformerClassifier, X: Any, y: Any, ax: Axes | None = None) -> Axes:
    """How many series of each class are taken for which: a row per true class.

    Args:
        X: series that the classifier was not trained on.
        y: their labels.
        ax: to draw on; None = a new figure.
    """
    predicted = estimator.predict(X)
    labels = np.unique(np.concatenate([estimator.classes_, np.asarray(y)]))
    counts = confusion_matrix(y, predicted, labels=labels)
    ax = _axes(ax)
    ax.imshow(counts, cmap="Blues")
    names = [str(label) for label in labels]
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    if len(names) <= MOST_WRITTEN:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if count > counts.max() / 2 else "black"
            ax.text(column, row, str(count), ha="center", va="center", color=color)
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        raise MissingExtraError("Plotting", "matplotlib", "plot") from None
    return pyplot.subplots(layout="constrained")[1]


def _words(name: str) -> str:
    return name.replace("_", " ")
