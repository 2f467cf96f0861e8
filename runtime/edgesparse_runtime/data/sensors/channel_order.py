"""`ChannelOrder`: were two channels exchanged? A window beside what it would be with two of them put back.

A range tells exchanged channels of different units; the axes of one sensor lie in one range. So a bundle
knows how each channel moves in the training windows and how each pair moves together, per class. A window is
held to this as it is and with every two channels exchanged. Where an exchange makes it fit better than it
made nearly any window of training, these two were exchanged. No exchange helps on a machine that differs as a
whole.

Shapes: `C` channels, `T` steps, `d` = C (C + 3) figures of a window, `R` = 1 + C (C - 1) / 2 orders: as the
window is, then each exchange; `K` centers.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray, IndexArray
from edgesparse_runtime.bundle.npz import read_arrays
from edgesparse_runtime.errors import BundleError

FILE = "channel_order.npz"
# The figures grow with the square of the channels.
MOST_CHANNELS = 12
# Shorter windows do not tell how channels move together.
FEWEST_STEPS = 8
# Distances squared below this one are all the same.
NEAREST = 2.0
# Correlations are at most this close to one.
_CLOSEST = 0.99


@dataclass(frozen=True)
class ChannelOrder:
    """How the channels of training windows move.

    Attributes:
        floor: least spread that is told from none, in the data's unit.
        weight: [d, d], takes figures to where distances count.
        centers: [K, d], of the classes, there.
        threshold: log ratio of distances from which two channels were exchanged.
        farthest: distance squared up to which a window that was put back is like those of training.
    """

    floor: float
    weight: DoubleArray
    centers: DoubleArray
    threshold: float
    farthest: float

    @np.errstate(over="ignore", invalid="ignore")
    def exchanged(self, window_CT: FloatArray) -> tuple[int, int] | None:
        """The two channels that were exchanged; None where the window is in order."""
        distances_R = self.distances(figures_of(window_CT, self.floor)[self._orders])
        best = int(distances_R[1:].argmin())
        # Values that float32 cannot square give NaN, of which neither holds.
        if log_ratio(distances_R) > self.threshold and distances_R[1 + best] <= self.farthest:
            return pairs_of(len(window_CT))[best]
        return None

    def distances(self, figures_Rd: DoubleArray) -> DoubleArray:
        """Squared, to the nearest center."""
        placed_Rd = figures_Rd @ self.weight.T
        square_RK = (placed_Rd**2).sum(1)[:, None] + (self.centers**2).sum(1) - 2 * placed_Rd @ self.centers.T
        return np.asarray(square_RK.min(axis=1).clip(min=0.0))

    @cached_property
    def _orders(self) -> IndexArray:
        return orders_of(round(np.sqrt(len(self.weight) + 2.25) - 1.5))

    def to_bytes(self) -> bytes:
        """Content of the file."""
        stream = io.BytesIO()
        scalars = np.array([self.floor, self.threshold, self.farthest])
        np.savez_compressed(
            stream,
            weight=self.weight.astype(np.float32),
            centers=self.centers.astype(np.float32),
            scalars=scalars,
        )
        return stream.getvalue()


def read_order(content: bytes, where: str, channels: int) -> ChannelOrder:
    """The content of a file of `channels` channels.

    Raises:
        BundleError: it is damaged.
    """
    found = {
        name: x.astype(np.float64) for name, x in read_arrays(content, where).items() if x.dtype.kind == "f"
    }
    d = channels * (channels + 3)
    shapes = {name: x.shape for name, x in found.items()}
    centers = shapes.get("centers", ())
    if shapes != {"weight": (d, d), "centers": (*centers[:1], d), "scalars": (3,)} or not centers[0]:
        raise BundleError(f"{where} must hold the order of {channels} channels. Export the bundle again.")
    if not all(np.isfinite(x).all() for x in found.values()):
        raise BundleError(f"{where} must hold finite numbers. Export the bundle again.")
    floor, threshold, farthest = found["scalars"].tolist()
    return ChannelOrder(floor, found["weight"], found["centers"], threshold, farthest)


def log_ratio(distances_R: DoubleArray) -> float:
    """How much nearer the best exchange is than the window as it is; below 0 it is farther."""
    return float(np.log((distances_R[0] + NEAREST) / (distances_R[1:].min() + NEAREST)))


@np.errstate(over="ignore", invalid="ignore")
def figures_of(window_CT: FloatArray, floor: float) -> DoubleArray:
    """[d]: per channel level and log spread of values, differences and second differences; then per pair the
    correlation of values and of differences, stretched so that they count alike near 1 and near 0.

    Missing values stand at the channel's mean.
    """
    x = filled(window_CT)
    middle = x.mean(axis=1, dtype=np.float64)
    apart = x - middle.astype(np.float32)[:, None]
    step = apart[:, 1:] - apart[:, :-1]
    bend = step[:, 1:] - step[:, :-1]
    first, second = _places(len(x))
    squares, alike = [], []
    for part in (apart, step):
        product = (part @ part.T).astype(np.float64) / part.shape[1]
        squares.append(product.diagonal())
        scale = np.sqrt(np.maximum(squares[-1], floor**2))
        ratio = product[first, second] / (scale[first] * scale[second])
        alike.append(np.arctanh(np.minimum(np.maximum(ratio, -_CLOSEST), _CLOSEST)))
    squares.append(np.einsum("ct,ct->c", bend, bend) / bend.shape[1])
    spreads = 0.5 * np.log(np.maximum(np.concatenate(squares), floor**2))
    return np.concatenate([middle, spreads, *alike])


def filled(window_CT: FloatArray) -> FloatArray:
    """With each channel's mean in place of missing values, or 0 where all are."""
    missing = np.isnan(window_CT)
    if not missing.any():
        return window_CT
    known = np.maximum(1, (~missing).sum(axis=1))
    mean = np.where(missing, 0.0, window_CT).sum(axis=1, dtype=np.float64) / known
    return np.where(missing, mean.astype(np.float32)[:, None], window_CT)


def pairs_of(channels: int) -> list[tuple[int, int]]:
    """Every two channels."""
    return list(combinations(range(channels), 2))


@cache
def _places(channels: int) -> tuple[IndexArray, IndexArray]:
    first, second = np.triu_indices(channels, 1)
    return first, second


def orders_of(channels: int) -> IndexArray:
    """Index [R, d] into a window's figures that gives those of each order."""
    place = np.zeros((channels, channels), dtype=np.int64)
    pairs = pairs_of(channels)
    for number, (i, j) in enumerate(pairs):
        place[i, j] = place[j, i] = number
    first, second = _places(channels)
    rows = []
    for i, j in [(0, 0), *pairs]:
        order = np.arange(channels)
        order[[i, j]] = order[[j, i]]
        own = [block * channels + order for block in range(4)]
        both = [4 * channels + block * len(pairs) + place[order[first], order[second]] for block in range(2)]
        rows.append(np.concatenate([*own, *both]))
    return np.stack(rows)
