"""The estimators as sktime's own kind, for its pipelines, benchmarks and checks.

```python
from edgesparse.estimators.for_sktime import SparseTransformerClassifier
```

Parameters are the same. What does the work is `estimator_`, of `edgesparse.estimators`:
`estimator_.save` writes a bundle.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from edgesparse.estimators import classifier, regressor
from edgesparse.estimators.options import Options
from edgesparse_runtime.errors import MissingExtraError

try:
    from sktime.classification.base import BaseClassifier
    from sktime.regression.base import BaseRegressor
except ModuleNotFoundError:
    raise MissingExtraError("`edgesparse.estimators.for_sktime`", "sktime", "data") from None

__all__ = ["SparseTransformerClassifier", "SparseTransformerRegressor"]

TAGS = {
    "X_inner_mtype": ["df-list", "numpy3D"],
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "capability:multithreading": True,
    "capability:random_state": True,
    "capability:categorical_in_X": False,
    "property:randomness": "derandomized",
    "python_dependencies": ["torch", "scikit-learn"],
    "authors": ["EdgeSparse"],
    "maintainers": ["EdgeSparse"],
}
# A transformer of a size that learns nothing, in no time.
TINY = {"model.width": 8, "model.layers": 1, "model.num_heads": 1, "model.filters": 4, "model.thresholds": 1}


class SparseTransformerClassifier(Options, BaseClassifier):  # type: ignore[misc]
    """`edgesparse.estimators.SparseTransformerClassifier` for sktime.

    Examples
    --------
    >>> from sktime.datasets import load_unit_test
    >>> from edgesparse.estimators.for_sktime import SparseTransformerClassifier
    >>> X, y = load_unit_test(split="train")
    >>> SparseTransformerClassifier().fit(X, y)
    SparseTransformerClassifier()
    """

    _tags: ClassVar[dict[str, Any]] = {**TAGS, "capability:predict_proba": True}

    def _fit(self, X: Any, y: Any) -> Self:
        self.estimator_ = classifier.SparseTransformerClassifier(**self.get_params(deep=False)).fit(X, y)
        return self

    def _predict(self, X: Any) -> Any:
        return self.estimator_.predict(X)

    def _predict_proba(self, X: Any) -> Any:
        return self.estimator_.predict_proba(X)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, object]]:
        """Parameters for sktime's checks: the small model, and a transformer."""
        return [{"settings": {"model.filters": 8}}, {"epochs": 1, "settings": TINY}]


class SparseTransformerRegressor(Options, BaseRegressor):  # type: ignore[misc]
    """`edgesparse.estimators.SparseTransformerRegressor` for sktime.

    Examples
    --------
    >>> from sktime.datasets import load_unit_test
    >>> from edgesparse.estimators.for_sktime import SparseTransformerRegressor
    >>> X, y = load_unit_test(split="train")
    >>> SparseTransformerRegressor(model="small").fit(X, y.astype(float))
    SparseTransformerRegressor(model='small')
    """

    _tags: ClassVar[dict[str, Any]] = dict(TAGS)

    def _fit(self, X: Any, y: Any) -> Self:
        self.estimator_ = regressor.SparseTransformerRegressor(**self.get_params(deep=False)).fit(
            X, np.ravel(y)
        )
        return self

    def _predict(self, X: Any) -> Any:
        return self.estimator_.predict(X)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, object]]:
        """Parameters for sktime's checks: a transformer, and the small model."""
        return [{"epochs": 1, "settings": TINY}, {"model": "small"}]
