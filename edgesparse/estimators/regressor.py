"""`SparseTransformerRegressor`: one number per series."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from edgesparse.estimators.errors import InvalidInputError
from edgesparse.estimators.estimator import SequenceEstimator, check_lengths
from edgesparse.estimators.panel import to_series_set
from edgesparse_runtime.arrays import DoubleArray


class SparseTransformerRegressor(RegressorMixin, SequenceEstimator):  # type: ignore[misc]
    """Predicts a number per series; by default with the small model of `edgesparse train --task regression`.

    Parameters are those of `edgesparse.estimators.options.Options`; docs/guides/estimators.md has them all.
    """

    task: ClassVar[str] = "regression"

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train on series and their numbers.

        Args:
            X: series, in any form that docs/guides/estimators.md lists.
            y: a number for each.
            groups: the machine, run or person of each series; those of one group are held out together.

        Raises:
            InvalidInputError: series, numbers or parameters that do not fit.
        """
        data = to_series_set(X)
        targets = to_targets(y)
        check_lengths(data, targets, "y")
        data = replace(data, labels=targets)
        if groups is not None:
            check_lengths(data, groups, "groups")
            data = replace(data, groups=np.asarray(groups).astype(np.str_))
        # Only once it is whole: what Ctrl-C stops leaves the estimator as it was.
        self.fitted_ = self._train(data)
        return self

    def predict(self, X: Any) -> DoubleArray:
        """The number of each series [n], in the unit of `y`."""
        return self._scores(X)[:, 0].astype(np.float64)

    @classmethod
    def from_bundle(cls, bundle: str | PathLike[str]) -> Self:
        """A fitted regressor that runs a bundle.

        Raises:
            InvalidInputError: not a regressor's bundle.
        """
        return cls._from_bundle(bundle)


def to_targets(y: Any) -> DoubleArray:
    """`y` as one column of numbers.

    Raises:
        ValueError: no numbers, several columns, or missing values.
    """
    if y is None:
        # Scikit-learn looks for the words after the semicolon.
        raise InvalidInputError("`y` must be given; fit requires y to be passed, but the target y is None.")
    column = column_or_1d(y, warn=True)
    try:
        if column.dtype.kind == "c":
            raise ValueError
        targets: DoubleArray = column.astype(np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError(f"`y` must hold numbers; got {column.dtype}.") from None
    if not np.isfinite(targets).all():
        raise InvalidInputError("`y` must be finite; it holds NaN or infinity.")
    return targets
