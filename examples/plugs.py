"""Series of unequal length: which appliance is plugged in, from its current (PLAID).

Data: 11 kinds of appliance, 100 to 1,344 steps; 537 series to train on, 537 to test (in sktime's package).
Needs: pip install 'edgesparse[estimators,data]'
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
from sklearn.metrics import recall_score

from edgesparse.estimators import SparseTransformerClassifier
from edgesparse_runtime import read_dataset

NAMES = (
    *("air conditioner", "compact fluorescent lamp", "fan", "fridge", "hair dryer", "heater"),
    *("incandescent lamp", "laptop", "microwave", "vacuum cleaner", "washing machine"),
)

folder = Path(str(files("sktime"))) / "datasets/data/PLAID"
train, test = (read_dataset(folder / f"PLAID_{part}.ts") for part in ("TRAIN", "TEST"))
lengths = [x.shape[1] for x in test.series]

# A list of arrays [channels, steps]: lengths may differ.
model = SparseTransformerClassifier().fit(list(train.series), train.labels)
predicted = model.predict(list(test.series))
right = predicted == test.labels

print(f"{len(test)} test series of {min(lengths)} to {max(lengths)} steps: accuracy {right.mean():.2f}")
halves = np.array(lengths) > np.median(lengths)
print(f"shorter half {right[~halves].mean():.2f}, longer half {right[halves].mean():.2f}")
print("appliance                   series  recall")
labels = sorted(model.classes_, key=int)
recalls = recall_score(test.labels, predicted, labels=labels, average=None)
for label, recall in zip(labels, recalls, strict=True):
    print(f"{NAMES[int(label)]:28}{np.sum(test.labels == label):6}{recall:8.2f}")
