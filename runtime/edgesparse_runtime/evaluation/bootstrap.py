"""`bootstrap_interval`: a 95 % percentile interval of any statistic, over rows or over groups of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Draws = npt.NDArray[Any]
Statistic = Callable[[Draws], npt.NDArray[Any]]

RESAMPLES = 2000
LEVELS = (0.025, 0.975)
# Entries of the draws that lie in memory at once.
_AT_ONCE = 1 << 22


def mean_of_rows(draws: Draws) -> npt.NDArray[Any]:
    """[draws, n] -> [draws]."""
    return np.asarray(draws.mean(axis=1))


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Statistic = mean_of_rows,
    *,
    clusters: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Lower and upper end of the statistic's 95 % interval; the same values always give the same.

    Args:
        values: [n, ...]; rows are drawn, and whatever belongs to one row stays together.
        statistic: of draws [k, n, ...] along their second axis: [k].
        clusters: [n], the group that each row belongs to. Whole groups are drawn: rows of one machine or
            recording resemble each other, and counting them as independent makes an interval too narrow.
        resamples: number of draws.

    Returns:
        (nan, nan) without values, and of one single group: it says nothing of the next one.
    """
    rows = np.asarray(values)
    if not len(rows):
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    if clusters is None:
        drawn = _draw_rows(rows, statistic, rng, resamples)
    else:
        names, member = np.unique(np.asarray(clusters), return_inverse=True)
        if len(names) < 2:
            return math.nan, math.nan
        members = [np.flatnonzero(member == i) for i in range(len(names))]
        drawn = _draw_clusters(rows, members, statistic, rng, resamples)
    low, high = np.quantile(drawn, LEVELS)
    return float(low), float(high)


def _draw_rows(
    rows: Draws, statistic: Statistic, rng: np.random.Generator, resamples: int
) -> npt.NDArray[Any]:
    at_once = max(1, min(resamples, _AT_ONCE // max(1, rows.size)))
    parts = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        parts.append(statistic(rows[rng.integers(0, len(rows), (count, len(rows)))]))
    return np.concatenate(parts)


def _draw_clusters(
    rows: Draws,
    members: list[npt.NDArray[np.int64]],
    statistic: Statistic,
    rng: np.random.Generator,
    resamples: int,
) -> npt.NDArray[Any]:
    drawn = np.empty(resamples)
    for i, picks in enumerate(rng.integers(0, len(members), (resamples, len(members)))):
        drawn[i] = statistic(rows[np.concatenate([members[k] for k in picks])][None])[0]
    return drawn
