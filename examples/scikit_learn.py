"""In scikit-learn: one cross-validation for several classifiers, then a test set and a bundle.

Data: GunPoint, two gestures of one hand, 150 steps; 50 series to train on, 150 to test (in sktime's package).
Needs: pip install 'edgesparse[estimators,export,data]'
"""

import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from edgesparse.estimators import SparseTransformerClassifier
from edgesparse_runtime import read_dataset


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Windows [n, channels, steps] and their labels."""
    data = read_dataset(Path(str(files("sktime"))) / f"datasets/data/GunPoint/GunPoint_{part}.ts")
    return np.stack(data.series), np.asarray(data.labels)


def as_table(X: np.ndarray) -> np.ndarray:
    """One row per window, for models that know no series."""
    return X.reshape(len(X), -1)


X, y = load("TRAIN")
X_test, y_test = load("TEST")
models = {
    "edgesparse": SparseTransformerClassifier(),
    "nearest neighbor": make_pipeline(FunctionTransformer(as_table), KNeighborsClassifier(1)),
    "ridge on raw steps": make_pipeline(FunctionTransformer(as_table), RidgeClassifierCV()),
}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
print("model               cross-validated  test set")
for name, model in models.items():
    crossed = cross_val_score(model, X, y, cv=folds).mean()
    print(f"{name:20}{crossed:15.2f}{model.fit(X, y).score(X_test, y_test):10.2f}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "gestures.edgesparse"
    models["edgesparse"].save(path, X)
    same = SparseTransformerClassifier.from_bundle(path).predict(X_test) == models["edgesparse"].predict(
        X_test
    )
    print(f"bundle: {same.sum()} of {len(same)} test series get the same label")
