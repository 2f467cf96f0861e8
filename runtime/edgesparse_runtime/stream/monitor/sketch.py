"""A distribution as 64 quantiles, and the rank of a value in it."""

from __future__ import annotations

import numpy as np

from edgesparse_runtime.arrays import DoubleArray

POINTS = 64
_FEW = 512


def sketch(values_NS: DoubleArray) -> DoubleArray:
    """Quantiles [signals, 64] at the middles of 64 equal shares; NaN where a signal has no value."""
    at = (np.arange(POINTS) + 0.5) / POINTS
    found = np.full((values_NS.shape[1], POINTS), np.nan)
    for i, column in enumerate(values_NS.T):
        known = column[~np.isnan(column)]
        if len(known):
            found[i] = np.quantile(known, at)
    return found


def ranks(quantiles_SP: DoubleArray, values_NS: DoubleArray) -> DoubleArray:
    """The rank of each value in its signal's sketch, from 0 to 1; equal values share the middle of theirs.

    On values like those of the sketch the mean rank is a half. NaN stays NaN.
    """
    if values_NS.size <= _FEW:
        # One comparison of everything with everything is faster than a search per signal.
        wide = values_NS[:, :, None]
        count = (quantiles_SP < wide).sum(axis=2) + (quantiles_SP <= wide).sum(axis=2)
        found: DoubleArray = count / (2.0 * POINTS)
    else:
        found = np.empty(values_NS.shape)
        for i, points in enumerate(quantiles_SP):
            column = values_NS[:, i]
            below, upto = np.searchsorted(points, column, "left"), np.searchsorted(points, column, "right")
            found[:, i] = (below + upto) / (2 * POINTS)
    found[np.isnan(values_NS) | np.isnan(quantiles_SP[:, 0])] = np.nan
    return found
