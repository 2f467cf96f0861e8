"""Clocks that are coarser than the samples, or round their times: 80 Hz in whole milliseconds.

The times that a steady sampler rounds lie within one tick of a straight line; that is how they are told from
samples that come unevenly, and from rows that were sent twice.
"""

from __future__ import annotations

import itertools

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, IndexArray

# Share of times that stand more than once from which the clock is taken to be coarser than the samples.
_COARSE = 0.4
# Ticks that a clock may have, in seconds.
_TICKS = tuple(10.0**-digits for digits in range(7))
# A period of more ticks is known well enough from its median.
_MOST_TICKS = 5
# Share of the distances that are the two whole ticks next to the period; and how often the rarer must come.
_LEAST_WHOLE, _LEAST_RARE = 0.95, 12
# How far, in ticks, rounded times may lie from their line, both ends together.
_WIDEST = 1.1


def spread_coarse(times: DoubleArray) -> tuple[DoubleArray, int]:
    """Times in order that mostly stand several times, spread evenly; the rows of one stamp keep their order.

    Returns:
        The times, and how many rows share a stamp; 0 = the clock is fine enough.
    """
    if len(times) < 4 or (np.diff(times) == 0).mean() < _COARSE:
        return times, 0
    stamps, counts = np.unique(times, return_counts=True)
    if len(stamps) < 2:
        return times, 0
    distance = float(np.median(np.diff(stamps)))
    # The first and the last stamp may have been cut off.
    typical = int(np.median(counts[1:-1] if len(counts) > 2 else counts))
    # Rows follow each other evenly until the stamps themselves have a hole.
    holes = np.flatnonzero(np.diff(stamps) > 1.5 * distance)
    bounds = np.concatenate([[0], np.cumsum(counts)[holes], [len(times)]])
    spread = np.empty_like(times)
    for first, last in itertools.pairwise(bounds.tolist()):
        inside = np.unique(times[first:last])
        rows = last - first
        # The period of this stretch, from whole stamps only.
        whole = np.count_nonzero((times[first:last] > inside[0]) & (times[first:last] < inside[-1]))
        period = distance / typical
        if len(inside) > 4 and whole:
            period = (inside[-1] - inside[1]) / whole
        spread[first:last] = times[first] + period * np.arange(rows)
    return spread, max(2, typical)


def spread_rounded(times: DoubleArray) -> tuple[DoubleArray, bool]:
    """Times in order that a steady sampler's clock has rounded to its ticks, spread evenly.

    Returns:
        The times, and whether they were rounded.
    """
    ticks = _ticks_of(times)
    if ticks is None:
        return times, False
    tick, steps, low = ticks
    holes = np.flatnonzero((steps < low) | (steps > low + 1)) + 1
    spread = times.copy()
    pieces = [piece for piece in np.split(np.arange(len(times)), holes) if len(piece) > 1]
    spans = sum(float(times[piece[-1]] - times[piece[0]]) for piece in pieces)
    period = spans / sum(len(piece) - 1 for piece in pieces)
    for piece in pieces:
        line = _line(times[piece], period)
        if float(np.ptp(times[piece] - line)) > _WIDEST * tick:
            return times, False
        spread[piece] = line
    return spread, True


def rounded_period(times: DoubleArray) -> float | None:
    """The period of a steady sampler whose clock has rounded these few times, in order; None = it has not."""
    ticks = _ticks_of(times, least_rare=4)
    if ticks is None or ticks[2] < 1:
        return None
    tick, steps, low = ticks
    inside = (steps >= low) & (steps <= low + 1)
    if not inside.all():
        return float(np.diff(times)[inside].mean())
    line = _line(times, None)
    return None if float(np.ptp(times - line)) > _WIDEST * tick else float(line[1] - line[0])


def _line(times: DoubleArray, period: float | None) -> DoubleArray:
    """Even times through the middle of these; with their own slope where they are many or none is given."""
    number = np.arange(len(times), dtype=np.float64)
    middle = number - number.mean()
    if period is None or len(times) > 4 * _LEAST_RARE:
        period = float((middle * (times - times.mean())).sum() / (middle**2).sum())
    return np.asarray(times.mean() + period * middle, dtype=np.float64)


def _ticks_of(times: DoubleArray, least_rare: int = _LEAST_RARE) -> tuple[float, IndexArray, int] | None:
    """The tick, the distances in ticks, and the lower of the two that follow each other; None = steady, or
    uneven for another reason."""
    distances = np.diff(times)
    if len(distances) < 2 * least_rare:
        return None
    # What is lost where a time is a large number, as seconds since 1970 are.
    error = 8 * float(np.finfo(np.float64).eps) * float(np.abs(times).max())
    for tick in _TICKS:
        steps = distances / tick
        whole = np.round(steps)
        if bool(whole.any()) and bool((np.abs(steps - whole) < min(1e-6 + error / tick, 0.1)).all()):
            break
    else:
        return None
    counts = np.bincount(np.minimum(whole, 2 * _MOST_TICKS).astype(np.int64), minlength=_MOST_TICKS + 1)
    pairs = counts[:_MOST_TICKS] + counts[1 : _MOST_TICKS + 1]
    low = int(pairs.argmax())
    is_pair = pairs[low] >= _LEAST_WHOLE * len(distances)
    if not is_pair or min(counts[low], counts[low + 1]) < least_rare:
        return None
    return tick, whole.astype(np.int64), low
