"""`explain_set`: what each class looks at, what none does, and whether that order may be relied on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray, FloatArray, IndexArray
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.bootstrap import bootstrap_interval
from edgesparse_runtime.explain.influence import measure_influence
from edgesparse_runtime.explain.trust import ORDERS_OF_SET, compare_maps, rank_correlation
from edgesparse_runtime.explain.window import Explainer

# Places that windows of any length are divided into.
PLACES = 16
MOST_WINDOWS = 100
# Part of an even share of the influence below which, interval included, nothing looks at a place.
LITTLE = 0.25


@dataclass(frozen=True)
class Difference:
    """A mean over windows, with its 95 % interval."""

    mean: float
    low: float
    high: float
    windows: int

    @property
    def holds(self) -> bool:
        """Above zero, interval included."""
        return self.low > 0

    def to_dict(self) -> dict[str, Any]:
        values = {"mean": self.mean, "low": self.low, "high": self.high}
        rounded = {k: None if math.isnan(v) else round(v, 5) for k, v in values.items()}
        return {**rounded, "windows": self.windows, "holds": self.holds}


@dataclass(frozen=True)
class SetExplanation:
    """What a model looks at in a set of windows.

    Attributes:
        rows: numbers of the explained windows in the data.
        total: windows in the data.
        channels, classes: their names.
        predicted: number of the predicted class of each window.
        places: signed influence of each sixteenth of each window, [n, PLACES].
        of_channels: of each channel, [n, channels]; without columns where there is only one.
        attended: share of the query blocks that attended to each sixteenth, [n, PLACES]; None without.
        routing_note: why there is none.
        trust: this order above random ones, over the windows.
        routing_trust: the same for the order of routing.
        agreement: rank correlation of routing and influence, over the windows.
    """

    rows: IndexArray
    total: int
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    predicted: IndexArray
    places: DoubleArray
    of_channels: DoubleArray
    attended: DoubleArray | None
    routing_note: str
    trust: Difference
    routing_trust: Difference | None
    agreement: Difference | None

    @property
    def holds(self) -> bool:
        """The maps of influence may be relied on."""
        return self.trust.holds

    def to_dict(self) -> dict[str, Any]:
        """Every figure; what the page and the text show is read from here."""
        names = self.classes or ("",)
        found = []
        for k, name in enumerate(names):
            mine = self.predicted == k
            if mine.any():
                found.append({"name": name or None, "windows": int(mine.sum()), **self._looks(mine)})
        return {
            "windows": len(self.rows),
            "total": self.total,
            "places": PLACES,
            "unit": "log-odds" if self.classes else "output",
            "channels": list(self.channels),
            "classes": found,
            "never": self._never(),
            "routing_note": self.routing_note or None,
            "trust": self.trust.to_dict(),
            "routing_trust": None if self.routing_trust is None else self.routing_trust.to_dict(),
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            "reliable": self.holds,
        }

    def _looks(self, mine: npt.NDArray[np.bool_]) -> dict[str, Any]:
        attended = None if self.attended is None else _listed(self.attended[mine].mean(axis=0))
        return {
            "influence": _listed(self.places[mine].mean(axis=0)),
            "share": _listed(_shares(self.places[mine]).mean(axis=0)),
            "channels": _listed(self.of_channels[mine].mean(axis=0)),
            "channel_share": _listed(_shares(self.of_channels[mine]).mean(axis=0)),
            "attended": attended,
        }

    def _never(self) -> dict[str, Any]:
        places, channels = _ignored(_shares(self.places)), _ignored(_shares(self.of_channels))
        attended = None
        if self.attended is not None:
            attended = [int(i) for i in np.flatnonzero(self.attended.max(axis=0) == 0)]
        return {"places": places, "channels": [self.channels[i] for i in channels], "attended": attended}


def explain_set(
    explainer: Explainer,
    data: SeriesSet,
    *,
    most: int = MOST_WINDOWS,
    advance: Callable[[], None] | None = None,
) -> SetExplanation:
    """Explain windows of a set together.

    Args:
        most: windows that are explained; of a larger set they are taken evenly.
        advance: called after each window, to show progress.

    Raises:
        InputError: no windows.
    """
    session = explainer.session
    rows = chosen_rows(len(data), most)
    if not len(rows):
        raise InputError(f"{data.source or 'data'}: there are no windows to explain.")
    windows = session.prepare(data.take(rows))
    places, channels, attended, predicted, gains, routed, agreed = [], [], [], [], [], [], []
    note = ""
    for window in windows:
        influence = measure_influence(session, window)
        decision, _ = explainer.decide(influence.scores)
        per_step = influence.per_step(decision)
        maps = [per_step]
        routing, note = explainer.route(window)
        if routing is not None:
            looked = routing.per_step()
            attended.append(_in_places(looked))
            maps.append(looked.astype(np.float64))
            agreed.append(rank_correlation(attended[-1], np.abs(_in_places(per_step))))
        own, random, _ = compare_maps(session, window, maps, ORDERS_OF_SET)
        gains.append(own[0] - random.mean())
        routed += [own[1] - random.mean()] if len(own) > 1 else []
        places.append(_in_places(per_step))
        channels.append(influence.of_channels(decision))
        predicted.append(decision.target or 0)
        if advance is not None:
            advance()
    groups = None if data.groups is None else data.groups[rows]
    has_all = len(attended) == len(windows)
    return SetExplanation(
        rows,
        len(data),
        session.channels or tuple(f"channel {i}" for i in range(len(windows[0]))),
        session.classes,
        np.array(predicted, dtype=np.int64),
        np.array(places),
        np.array(channels),
        np.array(attended) if has_all else None,
        note,
        _difference(gains, groups),
        _difference(routed, groups) if has_all else None,
        _difference(agreed, groups) if has_all else None,
    )


def chosen_rows(count: int, most: int) -> IndexArray:
    """At most `most` of `count` rows, evenly spread."""
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)) if count else np.zeros(0, int)
    )


def _difference(values: list[float], groups: npt.NDArray[np.str_] | None) -> Difference:
    kept = np.array([v for v in values if not math.isnan(v)])
    clusters = groups
    if groups is not None:
        clusters = groups[~np.isnan(np.array(values))]
        # Of a single group nothing could be said of the next one; its windows are what there is.
        clusters = clusters if len(np.unique(clusters)) > 1 else None
    low, high = bootstrap_interval(kept, clusters=clusters)
    return Difference(float(kept.mean()) if len(kept) else math.nan, low, high, len(kept))


def _in_places(values: FloatArray | DoubleArray) -> DoubleArray:
    """Means over sixteenths of the steps; of fewer steps the nearest one's value."""
    borders = np.linspace(0, len(values), PLACES + 1)
    ends = np.maximum(np.ceil(borders[1:]).astype(int), np.floor(borders[:-1]).astype(int) + 1)
    starts = np.floor(borders[:-1]).astype(int)
    return np.array([values[a:b].mean() for a, b in zip(starts, ends, strict=True)], dtype=np.float64)


def _shares(values_NP: DoubleArray) -> DoubleArray:
    sizes = np.abs(values_NP)
    return np.asarray(sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1e-12))


def _ignored(shares_NP: DoubleArray) -> list[int]:
    """Columns whose share is little, interval included."""
    count = shares_NP.shape[1]
    ends = [bootstrap_interval(shares_NP[:, i])[1] for i in range(count)]
    return [i for i, end in enumerate(ends) if end < LITTLE / count]


def _listed(values: DoubleArray) -> list[float]:
    return [round(float(x), 5) for x in values]
