"""The estimators as aeon's own kind, for its pipelines, benchmarks and checks.

```python
from edgesparse.estimators.for_aeon import SparseTransformerClassifier
```

Parameters are the same. What does the work is `estimator_`, of `edgesparse.estimators`:
`estimator_.save` writes a bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from edgesparse.estimators import classifier, regressor
from edgesparse.estimators.options import Options
from edgesparse_runtime.errors import MissingExtraError

try:
    from aeon.classification.base import BaseClassifier
    from aeon.regression.base import BaseRegressor
except ModuleNotFoundError:
    raise MissingExtraError("`edgesparse.estimators.for_aeon`", "aeon", "aeon") from None

__all__ = ["SparseTransformerClassifier", "SparseTransformerRegressor"]

TAGS = {
    "X_inner_type": ["np-list", "numpy3D"],
    "algorithm_type": "deeplearning",
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "capability:multithreading": True,
    "python_dependencies": "torch",
}
# A transformer of a size that learns nothing, in no time.
TINY = {"model.width": 8, "model.layers": 1, "model.num_heads": 1, "model.filters": 4, "model.thresholds": 1}


class OneThread(Options):
    """The same parameters; aeon wants one thread unless more are asked for."""

    def __init__(
        self,
        model: str | None = None,
        preset: str | None = None,
        attention: str | None = None,
        budget: float | None = None,
        epochs: int | None = None,
        settings: Mapping[str, object] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int = 1,
        verbose: bool = False,
    ) -> None:
        super().__init__(model, preset, attention, budget, epochs, settings, random_state, n_jobs, verbose)


class SparseTransformerClassifier(OneThread, BaseClassifier):  # type: ignore[misc]
    """`edgesparse.estimators.SparseTransformerClassifier` for aeon."""

    _tags: ClassVar[dict[str, Any]] = dict(TAGS)

    def _fit(self, X: Any, y: Any) -> Self:
        self.estimator_ = classifier.SparseTransformerClassifier(**self.get_params(deep=False)).fit(X, y)
        return self

    def _predict(self, X: Any) -> Any:
        return self.estimator_.predict(X)

    def _predict_proba(self, X: Any) -> Any:
        return self.estimator_.predict_proba(X)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> list[dict[str, object]]:
        return [{"settings": {"model.filters": 8}}, {"epochs": 1, "settings": TINY}]


class SparseTransformerRegressor(OneThread, BaseRegressor):  # type: ignore[misc]
    """`edgesparse.estimators.SparseTransformerRegressor` for aeon."""

    _tags: ClassVar[dict[str, Any]] = dict(TAGS)

    def _fit(self, X: Any, y: Any) -> Self:
        self.estimator_ = regressor.SparseTransformerRegressor(**self.get_params(deep=False)).fit(X, y)
        return self

    def _predict(self, X: Any) -> Any:
        return self.estimator_.predict(X)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> list[dict[str, object]]:
        return [{"epochs": 1, "settings": TINY}, {"model": "small"}]
