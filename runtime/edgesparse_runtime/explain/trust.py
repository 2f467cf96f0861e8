"""How far to believe a map: does taking parts away in its order move the scores more than at random?

Cumulative prediction difference (arXiv 2506.05035): parts are taken away one after another, and the change
of the scores is added up at each step, signs aside, so that effects in two directions do not cancel. What
counts is the mean of that sum over the steps: the better order moves the scores earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray
from edgesparse_runtime.explain.influence import cut_evenly, keep_length, ranked
from edgesparse_runtime.session import Session

# Random orders that one window's order is compared with; of a set's windows a few each.
ORDERS, ORDERS_OF_SET = 40, 5
# Parts of a window that an order is of, and the share of them that is taken away: with all of them, every
# order ends at the same place. Of fewer parts, one random order in forty might name the right one first.
PARTS = 32
_SHARE_REMOVED = 0.25
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Trust:
    """The order of one map against random ones.

    Attributes:
        own: cumulative difference of this order.
        random: mean of the random orders.
        low, high: 95 % interval of how far this order is above a random one.
        orders: random orders.
        removed: parts that were taken away.
        predictions: windows that were scored.
    """

    own: float
    random: float
    low: float
    high: float
    orders: int
    removed: int
    predictions: int

    @property
    def difference(self) -> float:
        """How far this order is above the mean random one."""
        return self.own - self.random

    @property
    def holds(self) -> bool:
        """The order moves the scores more than random ones, with the interval above zero."""
        return self.low > 0

    def to_dict(self) -> dict[str, Any]:
        found = {key: round(x, 5) if isinstance(x, float) else x for key, x in asdict(self).items()}
        return {**found, "difference": round(self.difference, 5), "holds": self.holds}


def judge_map(session: Session, window_CT: FloatArray, values_T: DoubleArray | FloatArray) -> Trust:
    """One window's map, a value per step, against `ORDERS` random orders."""
    own, others, removed = compare_maps(session, window_CT, [values_T], ORDERS)
    low, high = np.quantile(own[0] - others, _QUANTILES)
    predictions = 1 + removed * (1 + len(others))
    return Trust(float(own[0]), float(others.mean()), float(low), float(high), ORDERS, removed, predictions)


def compare_maps(
    session: Session,
    window_CT: FloatArray,
    maps: Sequence[DoubleArray | FloatArray],
    random: int,
) -> tuple[DoubleArray, DoubleArray, int]:
    """Cumulative differences of maps and of random orders, and how many parts each took away.

    Args:
        maps: a value per step each; what speaks for the decision goes first; of a regression, what moves it
            most.
        random: how many orders; the same ones each time.
    """
    parts = cut_evenly(window_CT.shape[1], PARTS)
    removed = max(1, int(len(parts) * _SHARE_REMOVED))
    rng = np.random.default_rng(0)
    means = [np.array([values[a:b].mean() for a, b in parts]) for values in maps]
    orders = [np.argsort(-x, kind="stable") if session.classes else ranked(x) for x in means]
    orders += [rng.permutation(len(parts)) for _ in range(random)]
    windows = [window_CT]
    for order in orders:
        left = window_CT.copy()
        for i in order[:removed]:
            left[:, parts[i][0] : parts[i][1]] = np.nan
            windows.append(keep_length(left.copy(), window_CT))
    scores = session.predict(np.stack(windows)).astype(np.float64)
    paths = scores[1:].reshape(len(orders), removed, -1)
    whole = np.broadcast_to(scores[0], (len(orders), 1, scores.shape[1]))
    steps = np.abs(np.diff(np.concatenate([whole, paths], axis=1), axis=1))
    # Of probabilities half of what changes is the other half coming back.
    moved = steps.sum(axis=2) / 2 if session.classes else steps.mean(axis=2)
    found = moved.cumsum(axis=1).mean(axis=1)
    return found[: len(maps)], found[len(maps) :], removed


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's, ties averaged; NaN where one is constant."""
    ranks = [_average_ranks(np.asarray(x, dtype=np.float64)) for x in (a, b)]
    spread = [x.std() for x in ranks]
    if not all(spread):
        return float("nan")
    centered = [x - x.mean() for x in ranks]
    return float((centered[0] * centered[1]).mean() / (spread[0] * spread[1]))


def _average_ranks(values: DoubleArray) -> DoubleArray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[group])
