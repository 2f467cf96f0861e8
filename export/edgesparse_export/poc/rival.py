"""A rival that is no transformer: aeon's MultiRocket-Hydra. It has no bundle; it runs in Python with aeon."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.measure.decision.answers import measure_decisions

# One window at a time.
TIMED = 30


def missing_package() -> str | None:
    """Why the rival cannot be measured here; None = it can."""
    missing = [name for name in ("aeon", "torch") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


def measure_rival(training: SeriesSet, test: SeriesSet, seed: int) -> dict[str, Any]:
    """Its answers, and its milliseconds per window by itself: outside of the interleaved rounds."""
    from aeon.classification.convolution_based import MultiRocketHydraClassifier

    assert training.labels is not None
    length = max(x.shape[1] for x in training.series)
    model = MultiRocketHydraClassifier(random_state=seed, n_jobs=1)
    model.fit(stretch(training, length), training.labels)

    def decide(data: SeriesSet) -> npt.NDArray[np.str_]:
        return np.asarray(model.predict(stretch(data, length)), dtype=np.str_)

    classes = tuple(str(name) for name in np.unique(training.labels))
    answers = measure_decisions(decide, test, classes)
    times = []
    for row in np.resize(np.arange(len(test)), TIMED + 3):
        window = test.take([int(row)])
        start = time.perf_counter()
        decide(window)
        times.append(1e3 * (time.perf_counter() - start))
    p50, p99 = float(np.median(times[3:])), float(max(times[3:]))
    return {"answers": {"float32": answers}, "latency": {"p50": p50, "p99": p99, "max": p99, "calls": TIMED}}


def stretch(data: SeriesSet, length: int) -> npt.NDArray[np.float32]:
    """[n, channels, length]; missing values lie on the line between their neighbors."""

    def one(row_T: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        known = np.flatnonzero(~np.isnan(row_T))
        if not len(known):
            return np.zeros(length)
        return np.interp(np.linspace(0, len(row_T) - 1, length), known, row_T[known])

    return np.array([[one(row_T) for row_T in x_CT] for x_CT in data.series], dtype=np.float32)
