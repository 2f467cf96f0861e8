"""What the pictures show."""

from __future__ import annotations

import numpy as np
import pytest

from edgesparse.estimators import (
    InvalidInputError,
    SparseTransformerClassifier,
    plot_confusion,
    plot_learning_curve,
)
from tests.edgesparse.estimators.panels import SMALL, TINY, make_batch

matplotlib = pytest.importorskip("matplotlib")
X, Y = make_batch()


@pytest.fixture(autouse=True)
def no_window() -> None:
    matplotlib.use("Agg")


def test_the_learning_curve_is_the_log() -> None:
    settings = {**TINY, "training.validation_share": 0.25}
    model = SparseTransformerClassifier(epochs=3, settings=settings).fit(X, Y)
    ax = plot_learning_curve(model)
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert ax.lines[0].get_ydata().tolist() == [line["loss"] for line in model.history_]
    assert [other.get_ylabel() for other in ax.figure.axes] == ["loss", "validation accuracy"]


def test_the_small_model_has_no_learning_curve() -> None:
    with pytest.raises(InvalidInputError, match="fitted in one step"):
        plot_learning_curve(SparseTransformerClassifier(settings=SMALL).fit(X, Y))


def test_the_confusion_counts_every_series_in_its_row() -> None:
    model = SparseTransformerClassifier(settings=SMALL).fit(X, Y)
    truth = np.array(["slow"] * 12)
    ax = plot_confusion(model, X, truth)
    assert [text.get_text() for text in ax.texts] == ["0", "0", "6", "6"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["fast", "slow"]
