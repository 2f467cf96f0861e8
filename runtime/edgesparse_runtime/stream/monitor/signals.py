"""One number per window and signal: level, spread and relation of channels, top score, class, and routing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from edgesparse_runtime.arrays import BoolArray, DoubleArray, FloatArray

# Scores of a regression that are signals of their own.
MOST_OUTPUTS = 8
# Channels whose products with each other are computed together.
_MOST_TOGETHER = 16
ROUTING = ("density", "entropy", "distance")


class Signals:
    """Computes the signals of windows.

    A signal that a window does not have (a channel without a value) is NaN.

    Args:
        channels: their names, in the model's order.
        classes: names of the scores; empty for regression.
        outputs: scores of a regression.
        layers: sparse layers whose selection is read; 0 = the selection is not read.

    Attributes:
        names: `level.CHANNEL`, `spread.CHANNEL`, `relation.CHANNEL~NEXT` (correlation of neighboring
            channels), `top_score`, `class.NAME` (1 when predicted) or `output.NUMBER`, and
            `density.LAYER`, `entropy.LAYER`, `distance.LAYER` of the blocks attended to.
    """

    def __init__(
        self, channels: Sequence[str], classes: Sequence[str] = (), outputs: int = 0, layers: int = 0
    ) -> None:
        self.layers = layers
        self._channels = len(channels)
        self._ones = np.ones(0, dtype=np.float32)
        self._classes = len(classes)
        self._outputs = min(outputs, MOST_OUTPUTS)
        pairs = pairwise(channels)
        self.names = (
            *(f"level.{name}" for name in channels),
            *(f"spread.{name}" for name in channels),
            *(f"relation.{a}~{b}" for a, b in pairs),
            *(("top_score", *(f"class.{name}" for name in classes)) if classes else ()),
            *(f"output.{i}" for i in range(0 if classes else self._outputs)),
            *(f"{kind}.{layer}" for layer in range(layers) for kind in ROUTING),
        )

    def of_window(
        self, window_CT: FloatArray, scores_K: FloatArray, selections: Sequence[BoolArray] = ()
    ) -> list[float]:
        """As `of_windows`, of one window: on a stream it may cost only a small part of a prediction."""
        row = self._describe_window(window_CT) if self._channels <= _MOST_TOGETHER else []
        if not row:
            return list(self.of_windows(window_CT[None], scores_K[None], selections)[0].tolist())
        if self._classes:
            best = int(scores_K.argmax())
            row.append(float(scores_K[best]))
            row += [0.0] * self._classes
            row[best - self._classes] = 1.0
        else:
            row += scores_K[: self._outputs].tolist()
        for selection in selections if self.layers else ():
            row += _describe_routing(selection)[0].tolist()
        return row + [math.nan] * (len(self.names) - len(row))

    def _describe_window(self, window_CT: FloatArray) -> list[float]:
        """Level, spread and relation of channels; empty where a value is missing."""
        steps = window_CT.shape[1]
        if len(self._ones) != steps:
            self._ones = np.ones(steps, dtype=np.float32)
        # Products of large levels would drown the spread.
        apart = window_CT - window_CT[:, :1]
        products = (apart @ apart.T).tolist()
        means = [total / steps for total in (apart @ self._ones).tolist()]
        if not math.isfinite(sum(means)):
            return []
        level = [float(first) + mean for first, mean in zip(window_CT[:, 0], means, strict=True)]
        spread = [
            math.sqrt(max(row[i] / steps - mean * mean, 0.0))
            for i, (row, mean) in enumerate(zip(products, means, strict=True))
        ]
        relation = []
        for i in range(len(means) - 1):
            size = spread[i] * spread[i + 1]
            both = products[i][i + 1] / steps - means[i] * means[i + 1]
            relation.append(both / size if size > 0 else 0.0)
        return [*level, *spread, *relation]

    def of_windows(
        self,
        windows: FloatArray | None,
        scores_NK: FloatArray,
        selections: Sequence[BoolArray] = (),
    ) -> DoubleArray:
        """The signals [n, signals].

        Args:
            windows: [n, channels, steps], NaN = missing; None = not known, as for stored scores.
            scores_NK: of the model.
            selections: per layer, bool [n, heads, query blocks, key blocks]; empty = not known.
        """
        found = np.full((len(scores_NK), len(self.names)), np.nan)
        model = self._classes + 1 if self._classes else self._outputs
        routing = len(ROUTING) * self.layers
        first = len(self.names) - model - routing
        if windows is not None:
            _describe_windows(windows, found[:, :first])
        if self._classes:
            best = scores_NK.argmax(axis=1)
            rows = np.arange(len(best))
            found[:, first] = scores_NK[rows, best]
            found[:, first + 1 : first + model] = 0.0
            found[rows, first + 1 + best] = 1.0
        else:
            found[:, first : first + model] = scores_NK[:, :model]
        if selections and routing:
            found[:, -routing:] = np.concatenate([_describe_routing(s) for s in selections], axis=1)
        return found


def _describe_windows(windows_NCT: FloatArray, out: DoubleArray) -> None:
    """Level, spread and relation of channels, into `out`."""
    channels, steps = windows_NCT.shape[1:]
    level = windows_NCT.mean(axis=2)
    centered = windows_NCT - level[:, :, None]
    if np.isnan(level).any():
        # Missing values count for nothing; a channel without any value has no figures.
        known = ~np.isnan(windows_NCT)
        count = known.sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            level = np.where(known, windows_NCT, 0).sum(axis=2) / count
        centered = np.where(known, windows_NCT - level[:, :, None], 0)
        spread = np.sqrt(np.einsum("nct,nct->nc", centered, centered) / np.maximum(count, 1))
        spread[count == 0] = np.nan
        steps_of = np.maximum((known[:, :-1] & known[:, 1:]).sum(axis=2), 1)
    else:
        spread = np.sqrt(np.einsum("nct,nct->nc", centered, centered) / steps)
        steps_of = np.full((len(level), channels - 1), steps)
    out[:, :channels] = level
    out[:, channels : 2 * channels] = spread
    if channels > 1:
        both = np.einsum("nct,nct->nc", centered[:, :-1], centered[:, 1:]) / steps_of
        size = spread[:, :-1] * spread[:, 1:]
        # A channel that does not move is related to none; of one without any value nothing is known.
        out[:, 2 * channels :] = np.where(size > 0, both / np.where(size > 0, size, 1), 0 * size)


def _describe_routing(selection_NHQK: BoolArray) -> DoubleArray:
    """Share of blocks kept, evenness of their use, and mean distance from query to key block, [n, 3]."""
    queries, keys = selection_NHQK.shape[2:]
    heads = selection_NHQK.shape[1]
    kept_NQK = selection_NHQK.sum(axis=1, dtype=np.float64)
    use = kept_NQK.sum(axis=1)
    total = use.sum(axis=1)
    most = np.maximum(total, 1.0)
    share = use / most[:, None]
    entropy = -(share * np.log(share + (share == 0))).sum(axis=1) / _largest_entropy(keys)
    distance = kept_NQK.reshape(len(kept_NQK), -1) @ _distances(queries, keys) / most
    return np.stack([total / (heads * queries * keys), entropy, distance], axis=1)


@lru_cache(maxsize=16)
def _distances(queries: int, keys: int) -> DoubleArray:
    """From each query block to each key block, over the longest."""
    apart = np.abs(np.arange(queries)[:, None] - np.arange(keys)) / max(1, keys - 1)
    return np.asarray(apart.ravel())


def _largest_entropy(keys: int) -> float:
    return max(math.log(keys), 1e-9)
