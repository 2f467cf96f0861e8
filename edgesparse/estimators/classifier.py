"""`SparseTransformerClassifier`: one label per series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from edgesparse.estimators.errors import InvalidInputError
from edgesparse.estimators.estimator import SequenceEstimator, check_lengths
from edgesparse.estimators.panel import to_series_set
from edgesparse_runtime.arrays import DoubleArray

Labels = npt.NDArray[Any]
LABEL_TYPES = (str, int, float)


class SparseTransformerClassifier(ClassifierMixin, SequenceEstimator):  # type: ignore[misc]
    """Classifies series; by default with the small model of `edgesparse train`.

    Parameters are those of `edgesparse.estimators.options.Options`; docs/guides/estimators.md has them all.

    Attributes:
        classes_: the labels, sorted, as `y` had them.
    """

    task: ClassVar[str] = "classification"
    classes_: Labels

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train on labeled series.

        Args:
            X: series, in any form that docs/guides/estimators.md lists.
            y: their labels.
            groups: the machine, run or person of each series; those of one group are held out together.

        Raises:
            InvalidInputError: series, labels or parameters that do not fit.
        """
        data = to_series_set(X)
        labels = to_labels(y)
        check_lengths(data, labels, "y")
        classes = np.unique(labels)
        names = class_names(classes)
        data = replace(data, labels=np.array(names, dtype=np.str_)[np.searchsorted(classes, labels)])
        if groups is not None:
            check_lengths(data, groups, "groups")
            data = replace(data, groups=np.asarray(groups).astype(np.str_))
        if len(classes) < 2:
            raise InvalidInputError(
                f"`y` must hold at least two classes; there is only one class, {names[0]}."
            )
        fitted = self._train(data)
        # Only now: what Ctrl-C stops leaves the estimator as it was.
        self.fitted_, self.classes_ = fitted, classes
        return self

    def predict_proba(self, X: Any) -> DoubleArray:
        """Probabilities [n, classes], in the order of `classes_`."""
        scores = self._scores(X).astype(np.float64)
        proba: DoubleArray = np.empty_like(scores)
        proba[:, self._places()] = scores
        # Probabilities of float32 sum to 1 to seven digits; scikit-learn compares in double.
        proba /= proba.sum(axis=1, keepdims=True)
        return proba

    def predict(self, X: Any) -> Labels:
        """The label of each series [n]."""
        # The first of equal scores in the model's own order, as the bundle decides.
        best = self._scores(X).argmax(axis=1)
        labels: Labels = self.classes_[self._places()[best]]
        return labels

    @classmethod
    def from_bundle(cls, bundle: str | PathLike[str], label_type: type = str) -> Self:
        """A fitted classifier that runs a bundle.

        Args:
            label_type: str, int or float: what the labels in `y` are. A bundle stores their names only.

        Raises:
            InvalidInputError: not a classifier's bundle, or classes that are no such numbers.
        """
        if label_type not in LABEL_TYPES:
            raise InvalidInputError(f"`label_type` must be str, int or float; got {label_type!r}.")
        estimator = cls._from_bundle(bundle)
        names = estimator.fitted_.classes
        try:
            estimator.classes_ = np.unique(np.array([label_type(name) for name in names]))
        except ValueError:
            raise InvalidInputError(
                f"`label_type` must be str: the classes of {bundle} are {', '.join(names[:4])}."
            ) from None
        return estimator

    def _places(self) -> npt.NDArray[np.intp]:
        """Where in `classes_` each class of the model is."""
        names = class_names(self.classes_)
        if set(names) != set(self.fitted_.classes):
            # 01 and 1 are two names of one number, say.
            raise InvalidInputError(
                "`label_type` must be str: two classes of the bundle are one number "
                f"({', '.join(self.fitted_.classes[:4])})."
            )
        return np.array([names.index(name) for name in self.fitted_.classes], dtype=np.intp)


def to_labels(y: Any) -> Labels:
    """`y` as one column of labels.

    Raises:
        ValueError: numbers with fractions, several columns, or a missing label.
    """
    if y is None:
        # Scikit-learn looks for the words after the semicolon.
        raise InvalidInputError("`y` must be given; fit requires y to be passed, but the target y is None.")
    labels: Labels = column_or_1d(y, warn=True)
    if labels.dtype.kind == "O":
        missing = [i for i, label in enumerate(labels) if label is None or label != label]
        if missing:
            raise InvalidInputError(f"`y` must hold no missing label; entry {missing[0]} is missing.")
        kinds = {isinstance(label, str) for label in labels}
        labels = labels.astype(np.str_) if kinds == {True} else np.array(labels.tolist())
    elif labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise InvalidInputError("`y` must be finite; it holds NaN or infinity.")
    check_classification_targets(labels)
    return labels


def class_names(classes: Labels) -> Sequence[str]:
    """What the model calls the labels: 1 and 1.0 are both "1"."""
    values = classes.tolist()
    return [str(int(x)) if isinstance(x, float) and x.is_integer() else str(x) for x in values]
