"""Typical training windows of each class, kept in a bundle: what a decision would have looked like otherwise.

An optional file of a bundle, `prototypes.npz`: `windows` [n, channels, steps] (NaN = missing, a tail of it =
padding), `classes` [n] as numbers of the manifest's list, `rows` [n] as numbers of the data that the bundle
was exported with. A class is what the model predicts, and the label too where the data had any.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesparse_runtime.arrays import BoolArray, DoubleArray, FloatArray, IndexArray
from edgesparse_runtime.bundle.npz import read_arrays
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.session import Session

FILE = "prototypes.npz"
MOST_PER_CLASS = 8
# Bytes of all windows together before compression.
LARGEST = 1 << 20
# Points at which windows of any length are compared.
_POINTS = 128
# Windows of a class among which typical ones are chosen.
_MOST_CANDIDATES = 200


@dataclass(frozen=True)
class Prototypes:
    """Typical windows.

    Attributes:
        windows: [channels, steps] each, without padding.
        classes: number of the class of each.
        rows: its number in the data that the bundle was exported with.
    """

    windows: tuple[FloatArray, ...]
    classes: IndexArray
    rows: IndexArray

    def nearest(self, window_CT: FloatArray, wanted: int) -> tuple[int, float] | None:
        """The nearest window of a class and its distance; None where the class has none.

        The distance is the root mean square difference in spreads of each channel over all prototypes, at
        `_POINTS` points: windows of different lengths are stretched to each other.
        """
        rows = np.flatnonzero(self.classes == wanted)
        if not len(rows):
            return None
        points = np.stack([stretch(x, _POINTS) for x in self.windows])
        spread = np.nanstd(points, axis=(0, 2), keepdims=True)[0]
        apart = (points[rows] - stretch(window_CT, _POINTS)) / np.where(spread > 0, spread, 1.0)
        squares = np.nanmean(apart**2, axis=(1, 2))
        if np.isnan(squares).all():
            return None
        best = int(np.nanargmin(squares))
        return int(rows[best]), float(np.sqrt(squares[best]))

    def to_bytes(self) -> bytes:
        """Content of the file."""
        longest = max(x.shape[1] for x in self.windows)
        windows = np.full((len(self.windows), len(self.windows[0]), longest), np.nan, dtype=np.float32)
        for row, x in zip(windows, self.windows, strict=True):
            row[:, : x.shape[1]] = x
        stream = io.BytesIO()
        np.savez_compressed(stream, windows=windows, classes=self.classes, rows=self.rows)
        return stream.getvalue()


def choose_prototypes(session: Session, data: SeriesSet, names: Sequence[str]) -> Prototypes | None:
    """The most typical windows of each class; None for a regression, or where they would be too large.

    Typical: each next one lowers the distance from the class's windows to their nearest prototype most.

    Args:
        names: of the classes, in the order of the scores.
    """
    if not names or session.takes_tensors:
        return None
    windows = session.prepare(data)
    per_class = min(MOST_PER_CLASS, LARGEST // (max((x.nbytes for x in windows), default=1) * len(names)))
    if not windows or not per_class:
        return None
    predicted = session.predict(data).argmax(axis=1)
    agrees = np.ones(len(windows), dtype=np.bool_)
    if data.labels is not None and data.labels.dtype.kind == "U":
        agrees = data.labels == np.array(names, dtype=np.str_)[predicted]
    points = np.stack([stretch(x, _POINTS) for x in windows])
    spread = np.nanstd(points, axis=(0, 2), keepdims=True)
    points = np.nan_to_num(points / np.where(spread > 0, spread, 1.0))
    chosen: list[int] = []
    for k in range(len(names)):
        chosen += _typical(points, (predicted == k) & agrees, per_class)
    if not chosen:
        return None
    rows = np.array(chosen, dtype=np.int64)
    return Prototypes(tuple(windows[i] for i in rows), predicted[rows].astype(np.int64), rows)


def read_prototypes(bundle: Bundle) -> Prototypes | None:
    """Those of a bundle; None where it has none, as bundles of older versions.

    Raises:
        BundleError: the file does not fit the bundle.
    """
    if FILE not in bundle.manifest["files"]:
        return None
    name = f"{bundle.path}: {FILE}"
    arrays = read_arrays(bundle.read(FILE), name)
    windows, classes, rows = (arrays.get(key, np.zeros(0)) for key in ("windows", "classes", "rows"))
    is_right = (
        windows.ndim == 3
        and windows.dtype == np.float32
        and windows.shape[1] == len(bundle.channels)
        and classes.shape == rows.shape == windows.shape[:1]
        and classes.dtype.kind == rows.dtype.kind == "i"
        and bool(((classes >= 0) & (classes < len(bundle.classes))).all())
        and not np.isinf(windows).any()
    )
    if not is_right:
        raise BundleError(f"{name} must hold windows of the bundle's channels and classes. Export it again.")
    kept = [w[:, : _length(w)] for w in windows]
    return Prototypes(tuple(kept), classes.astype(np.int64), rows.astype(np.int64))


def stretch(window_CT: FloatArray, steps: int) -> DoubleArray:
    """The window at `steps` points, linearly between its values; missing values stay missing."""
    places = np.linspace(0, window_CT.shape[1] - 1, steps)
    own = np.arange(window_CT.shape[1])
    return np.stack([np.interp(places, own, row.astype(np.float64)) for row in window_CT])


def _typical(points: DoubleArray, mask: BoolArray, count: int) -> list[int]:
    rows = np.flatnonzero(mask)
    if not len(rows):
        return []
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_CANDIDATES)).astype(int))]
    flat = points[rows].reshape(len(rows), -1)
    squares = (flat**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares[None] - 2 * flat @ flat.T, 0.0)
    nearest = np.full(len(rows), np.inf)
    found: list[int] = []
    for _ in range(min(count, len(rows))):
        totals = np.minimum(apart, nearest[:, None]).sum(axis=0)
        totals[found] = np.inf
        best = int(totals.argmin())
        found.append(best)
        nearest = np.minimum(nearest, apart[:, best])
    return [int(rows[i]) for i in found]


def _length(window_CT: FloatArray) -> int:
    seen = np.flatnonzero(~np.isnan(window_CT).all(axis=0))
    return int(seen[-1]) + 1 if len(seen) else window_CT.shape[1]
