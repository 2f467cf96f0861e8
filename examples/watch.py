"""A watch on the wrist: which motion, and which sensor is worth building in.

Data: BasicMotions, acceleration and rotation in three axes each, 100 steps at 10 Hz; 40 windows to train on,
40 to test (in sktime's package).
Needs: pip install 'edgesparse[estimators,data]'
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
from sklearn.metrics import recall_score

from edgesparse.estimators import SparseTransformerClassifier
from edgesparse_runtime import read_dataset

SENSORS = {"acceleration": [0, 1, 2], "rotation": [3, 4, 5], "both": [0, 1, 2, 3, 4, 5]}


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Windows [n, channels, steps] and their motions."""
    data = read_dataset(Path(str(files("sktime"))) / f"datasets/data/BasicMotions/BasicMotions_{part}.ts")
    return np.stack(data.series), np.array([str(label).lower() for label in data.labels])


X, y = load("TRAIN")
X_test, y_test = load("TEST")
motions = sorted(set(y))
print("sensor        accuracy" + "".join(f"{name:>11}" for name in motions))
for sensor, channels in SENSORS.items():
    predicted = SparseTransformerClassifier().fit(X[:, channels], y).predict(X_test[:, channels])
    recalls = recall_score(y_test, predicted, labels=motions, average=None)
    print(f"{sensor:14}{np.mean(predicted == y_test):8.2f}" + "".join(f"{x:11.2f}" for x in recalls))
