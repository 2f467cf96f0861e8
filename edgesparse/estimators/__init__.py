"""Estimators for scikit-learn, and for sktime and aeon through `for_sktime` and `for_aeon`.

```python
from edgesparse.estimators import SparseTransformerClassifier

model = SparseTransformerClassifier().fit(X, y)  # X [n, channels, time], y [n]
model.predict(X_new)
model.save("pump.edgesparse")
```

Names listed here are public; every other module but `for_sktime` and `for_aeon` is private and may change.
"""

from __future__ import annotations

import importlib.util

from edgesparse_runtime.errors import MissingExtraError

if importlib.util.find_spec("sklearn") is None:
    raise MissingExtraError("`edgesparse.estimators`", "scikit-learn", "estimators")

from edgesparse.estimators.classifier import SparseTransformerClassifier as SparseTransformerClassifier
from edgesparse.estimators.errors import InvalidInputError as InvalidInputError
from edgesparse.estimators.forecaster import SparseTransformerForecaster as SparseTransformerForecaster
from edgesparse.estimators.plots import plot_confusion as plot_confusion
from edgesparse.estimators.plots import plot_learning_curve as plot_learning_curve
from edgesparse.estimators.regressor import SparseTransformerRegressor as SparseTransformerRegressor

__all__ = [
    "InvalidInputError",
    "SparseTransformerClassifier",
    "SparseTransformerForecaster",
    "SparseTransformerRegressor",
    "plot_confusion",
    "plot_learning_curve",
]
