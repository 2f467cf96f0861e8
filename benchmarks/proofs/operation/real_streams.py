"""Streams of real windows: recordings that a model has not seen, one after another in random order.

Windows overlap by 75 %, as a stream cuts them, and never span two recordings. A small model is trained on
windows of the training recordings. Streams draw recordings with replacement, so they do not change, however
much the recordings differ from each other; windows of one recording stay together and in order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.learning.data import load
from edgesparse.config import ModelConfig, RunConfig
from edgesparse.training.data import Windows, to_tensor
from edgesparse.training.evaluation import predict
from edgesparse.training.train import train
from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.operation.events.timeline import Track
from edgesparse_runtime.stream.monitor.signals import Signals

# Steps of a window.
SETS = {"watch": 150, "CinCECGTorso": 400, "FordA": 125, "FreezerSmallTrain": 100}
OVERLAP = 4
MOST_TRAINED, MOST_HELD = 600, 300
# Recordings of an event's class for one of the others; windows of a track.
_EVENT_SHARE = 0.1
_TRACK_WINDOWS = 1_000


@dataclass(frozen=True)
class Recorded:
    """The windows of one held-out recording: signals [n, signals], scores [n, classes]."""

    label: str
    group: str
    signals: DoubleArray
    scores: FloatArray


@dataclass(frozen=True)
class Pool:
    """Held-out recordings of a set, and the names of classes and signals."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    recordings: tuple[Recorded, ...]

    def halves(self, seed: int) -> tuple[Pool, Pool]:
        """At random, by group where there are groups, else by recording."""
        rng = np.random.default_rng(seed)
        groups = rng.permutation(np.unique([one.group for one in self.recordings]))
        if len(groups) > 1:
            first = np.isin([one.group for one in self.recordings], groups[::2])
        else:
            first = rng.permutation(len(self.recordings)) % 2 == 0
        parts = [
            tuple(one for one, is_first in zip(self.recordings, first, strict=True) if is_first == side)
            for side in (True, False)
        ]
        return Pool(self.classes, self.names, parts[0]), Pool(self.classes, self.names, parts[1])


@cache
def read_pool(name: str) -> Pool:
    """Trains on the training recordings and runs the held-out ones."""
    training, test = load(name)
    windows = _cut(training, SETS[name])
    rng = np.random.default_rng(0)
    test = test.take(np.sort(rng.permutation(len(test))[:MOST_HELD]))
    windows = windows.take(np.sort(rng.permutation(len(windows))[:MOST_TRAINED]))
    with tempfile.TemporaryDirectory() as folder:
        run = train(windows, RunConfig(model=ModelConfig(layers=0)), Path(folder) / "run", quiet=True)
    classes = tuple(run.facts.classes)
    cut = _cut(test, SETS[name])
    scores = predict(run.model, Windows(*to_tensor(cut))).softmax(-1).numpy().astype(np.float32)
    signals = Signals(test.channels, classes)
    values = signals.of_windows(np.stack(list(cut.series)), scores)
    assert cut.recordings is not None and test.labels is not None
    owners = cut.recordings.astype(int)
    groups = np.zeros(len(test), np.str_) if test.groups is None else test.groups
    found = [
        Recorded(str(test.labels[i]), str(groups[i]), values[owners == i], scores[owners == i])
        for i in np.unique(owners)
    ]
    return Pool(classes, signals.names, tuple(found))


def make_stream(pool: Pool, count: int, seed: int) -> DoubleArray:
    """`count` windows of recordings in random order, [count, signals]."""
    rng = np.random.default_rng(seed)
    parts, have = [], 0
    while have < count:
        parts.append(pool.recordings[rng.integers(len(pool.recordings))].signals)
        have += len(parts[-1])
    return np.concatenate(parts)[:count]


def make_tracks(pool: Pool, event: str, seed: int) -> list[Track]:
    """Each recording of the other classes once, in random order, and between them some of the event's class.

    One group a thousand windows or so, so that rules are fitted and tried on whole recordings.
    """
    rng = np.random.default_rng(seed)
    inside = [one for one in pool.recordings if one.label == event]
    outside = [one for one in pool.recordings if one.label != event]
    events = max(2, round(_EVENT_SHARE * len(outside)))
    places = np.sort(
        rng.choice(len(outside) - 1, min(events, len(inside), len(outside) - 1), replace=False) + 1
    )
    order = [outside[i] for i in rng.permutation(len(outside))]
    chosen = [inside[i] for i in rng.permutation(len(inside))[: len(places)]]
    for place, one in zip(places[::-1], chosen, strict=True):
        order.insert(place, one)
    tracks: list[Track] = []
    parts: list[Recorded] = []
    for one in order:
        parts.append(one)
        if one.label != event and sum(len(part.scores) for part in parts) >= _TRACK_WINDOWS:
            tracks.append(_join(parts, len(tracks)))
            parts = []
    return [*tracks, _join(parts, len(tracks))] if parts else tracks


def _join(parts: Sequence[Recorded], number: int) -> Track:
    labels = np.repeat(np.array([one.label for one in parts]), [len(one.scores) for one in parts])
    return Track(np.concatenate([one.scores for one in parts]), labels, str(number))


def _cut(data: SeriesSet, window: int) -> SeriesSet:
    """Windows of each series; `recordings` has the number of the series."""
    stride, owners, found = window // OVERLAP, [], []
    for i, x in enumerate(data.series):
        for start in range(0, x.shape[1] - window + 1, stride):
            found.append(np.ascontiguousarray(x[:, start : start + window]))
            owners.append(i)
    names = None if data.labels is None else data.labels[owners]
    groups = None if data.groups is None else data.groups[owners]
    return SeriesSet(found, data.channels, names, groups, recordings=np.array(owners).astype(str))
