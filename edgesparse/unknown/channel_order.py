"""Fits a `ChannelOrder` to training windows, and its threshold to windows that were left out by turns.

Shapes: `n` windows, `R` orders, `d` figures, as in `edgesparse_runtime.data.sensors.channel_order`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from edgesparse.unknown.fit import threshold_of
from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.data.sensors.channel_order import (
    FEWEST_STEPS,
    MOST_CHANNELS,
    ChannelOrder,
    figures_of,
    filled,
    log_ratio,
    orders_of,
)
from edgesparse_runtime.data.series_set import SeriesSet

# Share of good windows that may be taken for exchanged ones.
REFUSED = 0.005
# An order that finds fewer of the exchanges is not kept.
LEAST_FOUND = 0.5
# Fewer windows do not tell how channels move together.
FEWEST_WINDOWS = 20
MOST_WINDOWS = 512
FOLDS = 10
# Added to a figure's variance within a class, in units of its variance over all windows.
SHRINKAGE = 0.05
# A window that was put back is at most this many times as far off as any window that was left out.
FARTHEST = 4.0
# Of the stillest channel's spread: that of one which does not move.
STILL = 1e-3


@dataclass(frozen=True)
class OrderReport:
    """What the threshold rests on.

    Attributes:
        windows: that were left out by turns.
        found: share of the exchanges of two channels that was noticed in them.
    """

    windows: int
    found: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def fit_order(data: SeriesSet) -> tuple[ChannelOrder, OrderReport] | None:
    """How the channels of training windows move; None where that does not tell exchanged ones."""
    channels = len(data.channels)
    rows = np.array([i for i, steps in enumerate(data.lengths) if steps >= FEWEST_STEPS], dtype=np.int64)
    if not 2 <= channels <= MOST_CHANNELS or len(rows) < FEWEST_WINDOWS:
        return None
    part = data.take(np.sort(np.random.default_rng(0).permutation(rows)[:MOST_WINDOWS]))
    windows = [filled(x) for x in part.series]
    spread = np.median([x.std(axis=1, dtype=np.float64) for x in windows], axis=0)
    if not spread.any():
        return None
    floor = STILL * float(spread[spread > 0].min())
    orders_Rd = orders_of(channels)
    figures_nd = np.stack([figures_of(x, floor) for x in windows])
    if not np.isfinite(figures_nd).all():
        return None
    kinds = _numbers(part.labels if _has_classes(part) else None, len(part))
    folds = _folds(kinds, part.groups)
    left_out_nR = np.empty((len(part), len(orders_Rd)))
    back_n, exchange_n = np.empty(len(part)), np.random.default_rng(1).integers(1, len(orders_Rd), len(part))
    for fold in np.unique(folds):
        model = _fit(figures_nd[folds != fold], kinds[folds != fold], floor)
        for i in np.flatnonzero(folds == fold):
            left_out_nR[i] = model.distances(figures_nd[i][orders_Rd])
            back_n[i] = log_ratio(model.distances(figures_nd[i][orders_Rd[exchange_n[i]]][orders_Rd]))
    good_n = np.array([log_ratio(distances_R) for distances_R in left_out_nR])
    threshold = max(0.0, threshold_of(good_n, REFUSED))
    found = float((back_n > threshold).mean())
    if found < LEAST_FOUND:
        return None
    whole = _fit(figures_nd, kinds, floor)
    farthest = FARTHEST * float(left_out_nR[:, 0].max())
    order = ChannelOrder(floor, whole.weight, whole.centers, threshold, farthest)
    return order, OrderReport(len(part), found)


def _fit(figures_nd: DoubleArray, kinds_n: npt.NDArray[np.int64], floor: float) -> ChannelOrder:
    """Class means, and one covariance within classes."""
    middle, scale = figures_nd.mean(axis=0), figures_nd.std(axis=0) + 1e-6
    x_nd = (figures_nd - middle) / scale
    kinds = np.unique(kinds_n)
    centers_Kd = np.stack([x_nd[kinds_n == kind].mean(axis=0) for kind in kinds])
    apart = x_nd - centers_Kd[np.searchsorted(kinds, kinds_n)]
    square, vectors = np.linalg.eigh(apart.T @ apart / len(apart))
    whiten = vectors.T / np.sqrt(square.clip(min=0.0) + SHRINKAGE)[:, None]
    weight = whiten / scale
    return ChannelOrder(floor, weight, centers_Kd @ whiten.T + weight @ middle, 0.0, np.inf)


def _has_classes(data: SeriesSet) -> bool:
    return data.labels is not None and data.labels.dtype.kind in "USO"


def _numbers(names_n: npt.NDArray[np.generic] | None, count: int) -> npt.NDArray[np.int64]:
    if names_n is None:
        return np.zeros(count, dtype=np.int64)
    return np.asarray(np.unique(names_n, return_inverse=True)[1], dtype=np.int64)


def _folds(kinds_n: npt.NDArray[np.int64], groups_n: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int64]:
    """Groups stay together; else every class is dealt out."""
    if groups_n is not None and len(np.unique(groups_n)) > 2:
        return _numbers(groups_n, len(kinds_n)) % FOLDS
    folds = np.zeros(len(kinds_n), dtype=np.int64)
    for kind in np.unique(kinds_n):
        rows = np.flatnonzero(kinds_n == kind)
        folds[rows] = (np.arange(len(rows)) + kind) % FOLDS
    return folds
