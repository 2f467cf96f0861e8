"""`update --mode full` with a reservoir in place of the old data, beside training from scratch on everything.

Each set has an old and a new domain. The champion is trained on the old one. The challenger is trained on the
new windows and on a reservoir of half of the old ones; its rival on everything. All are measured on test
series of both domains.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.learning.data import _ucr, load
from edgesparse.config import ModelConfig, RunConfig
from edgesparse.training.data import Windows, to_tensor
from edgesparse.training.evaluation import predict
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.operation.update.known import join
from edgesparse_runtime.operation.update.reservoir import sample

Domains = tuple[SeriesSet, SeriesSet, SeriesSet, SeriesSet]
MOST = 300


def measure_update(name: str) -> dict[str, float]:
    """Accuracy on both domains of champion, challenger and a model trained on everything."""
    old, new, old_test, new_test = SETS[name]()
    rows = sample(_labels(old), np.zeros(0, dtype=np.str_), {}, len(old) // 2, 0)[0]
    champion = _train(old)
    challenger, everything = _train(join([old.take(rows), new])), _train(join([old, new]))
    found = {"reservoir": float(len(rows)), "old windows": float(len(old)), "new windows": float(len(new))}
    for model, run in (("champion", champion), ("challenger", challenger), ("everything", everything)):
        for domain, test in (("old", old_test), ("new", new_test)):
            found[f"{model} {domain}"] = _accuracy(run, test)
    return found


def _train(data: SeriesSet) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        return train(data, RunConfig(model=ModelConfig(layers=0)), Path(folder) / "run", quiet=True)


def _accuracy(run: Run, test: SeriesSet) -> float:
    decided = np.array(run.facts.classes)[predict(run.model, Windows(*to_tensor(test))).argmax(-1).numpy()]
    return float((decided == _labels(test)).mean())


def _labels(data: SeriesSet) -> npt.NDArray[np.str_]:
    return np.asarray(data.labels, dtype=np.str_)


def _watch() -> Domains:
    """Seven people, then three others, of whose series half are for the update."""
    old, new = load("watch")
    (old, old_test), (new, new_test) = _halves(old), _halves(new)
    return old, new, old_test, new_test


def _pair(before: str, after: str) -> Callable[[], Domains]:
    def read() -> Domains:
        (old, old_test), (new, new_test) = _ucr(before).read(), _ucr(after).read()
        rng = np.random.default_rng(0)
        parts = [
            part.take(np.sort(rng.permutation(len(part))[:MOST])) for part in (old, new, old_test, new_test)
        ]
        return parts[0], parts[1], parts[2], parts[3]

    return read


def _halves(data: SeriesSet) -> tuple[SeriesSet, SeriesSet]:
    """Every other series of a class."""
    first = np.zeros(len(data), dtype=np.bool_)
    for label in np.unique(_labels(data)):
        first[np.flatnonzero(_labels(data) == label)[::2]] = True
    return data.take(np.flatnonzero(first)), data.take(np.flatnonzero(~first))


SETS: dict[str, Callable[[], Domains]] = {
    "watch, other people": _watch,
    "AllGestureWiimote, x to z": _pair("AllGestureWiimoteX", "AllGestureWiimoteZ"),
    "GestureMidAir, x to z": _pair("GestureMidAirD1", "GestureMidAirD3"),
}
