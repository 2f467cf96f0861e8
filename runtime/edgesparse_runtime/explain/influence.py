"""Influence: parts of a window set to missing, and what is left scored again.

Two-sided: a segment is taken away from the window, and the window away from the segment. At two scales, whose
borders do not coincide, so that together they place an edge more finely than either. A channel is taken away
as a whole. The windows keep their length (`keep_length`).

Shapes: `N` rescored windows, `K` scores, `S` segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray, FloatArray, IndexArray
from edgesparse_runtime.session import Session

# Rescored windows that one explanation may take, the window itself included.
BUDGET = 29
# Channels that are within the budget; each one beyond costs one more prediction.
_MOST_CHANNELS = 8
# Of what is left: segments of the fine scale are taken away only, coarse ones also left alone.
_FINE, _FEWEST_FINE = 16, 12
_COARSE_WEIGHT = 0.5
# Below this a probability is rounding.
_LEAST = 1e-9


@dataclass(frozen=True)
class Decision:
    """What an explanation is of: one output, perhaps against another one.

    Attributes:
        target: column of the scores; None for a regression, whose outputs are averaged.
        against: column that the target is compared with; None = all others together.
    """

    target: int | None
    against: int | None = None

    def evidence(self, scores_NK: FloatArray) -> DoubleArray:
        """Log-odds of the target over its rivals, or the mean output of a regression, [N]."""
        scores = scores_NK.astype(np.float64)
        if self.target is None:
            return np.asarray(scores.mean(axis=1))
        own = np.maximum(scores[:, self.target], _LEAST)
        if self.against is not None:
            rivals = scores[:, self.against]
        else:
            # Not 1 - own: of a sure decision nothing would be left but rounding.
            rivals = np.delete(scores, self.target, axis=1).sum(axis=1)
        return np.asarray(np.log(own) - np.log(np.maximum(rivals, _LEAST)))


@dataclass(frozen=True)
class Scale:
    """Segments of one length.

    Attributes:
        starts, ends: in steps, [S].
        without: scores of the window without each segment, [S, K].
        alone: scores of each segment without the window, [S, K]; None where the scale is one-sided.
    """

    starts: IndexArray
    ends: IndexArray
    without: FloatArray
    alone: FloatArray | None

    def changes(self, decision: Decision, whole: FloatArray) -> DoubleArray:
        """What each segment adds to the evidence: positive speaks for the target. [S]."""
        removed = decision.evidence(whole[None]) - decision.evidence(self.without)
        if self.alone is None:
            return removed
        kept = decision.evidence(self.alone)
        return np.asarray((removed + kept - np.median(kept)) / 2)

    def per_step(self, changes: DoubleArray) -> DoubleArray:
        """Changes at each step: a segment's own at its middle, and linearly in between."""
        middles = (self.starts + self.ends - 1) / 2
        return np.asarray(np.interp(np.arange(self.ends[-1]), middles, changes))


@dataclass(frozen=True)
class Influence:
    """What moved the scores of one window.

    Attributes:
        scores: of the whole window, [K].
        fine, coarse: the two scales.
        channels: scores of the window without each channel, [channels, K]; None of a single channel.
        predictions: windows that were scored.
    """

    scores: FloatArray
    fine: Scale
    coarse: Scale
    channels: FloatArray | None
    predictions: int

    def segments(self, decision: Decision) -> DoubleArray:
        """Signed influence of each fine segment, the mean over its steps. [S]."""
        steps = self.per_step(decision)
        sums = np.add.reduceat(steps, self.fine.starts)
        return np.asarray(sums / (self.fine.ends - self.fine.starts))

    def per_step(self, decision: Decision) -> DoubleArray:
        """Signed influence at each step.

        The fine scale, and with half its weight the coarse one, brought to the size of the fine one: longer
        segments move scores more.
        """
        fine, coarse = (s.per_step(s.changes(decision, self.scores)) for s in (self.fine, self.coarse))
        size = np.abs(fine).max() / max(float(np.abs(coarse).max()), _LEAST)
        return np.asarray(fine + coarse * (_COARSE_WEIGHT * size))

    def of_channels(self, decision: Decision) -> DoubleArray:
        """Signed influence of each channel; empty where there is only one."""
        if self.channels is None:
            return np.zeros(0)
        return decision.evidence(self.scores[None]) - decision.evidence(self.channels)


def measure_influence(session: Session, window_CT: FloatArray) -> Influence:
    """Score a window without its parts.

    Args:
        window_CT: without padding at its end.
    """
    channels, steps = window_CT.shape
    fine, coarse = choose_segments(channels, steps)
    parts = [window_CT]
    parts += [without_steps(window_CT, a, b) for a, b in fine]
    parts += [without_steps(window_CT, a, b) for a, b in coarse]
    parts += [only_steps(window_CT, a, b) for a, b in coarse]
    if channels > 1:
        parts += [without_channel(window_CT, i) for i in range(channels)]
    scores = session.predict(np.stack(parts))
    cuts = np.cumsum([1, len(fine), len(coarse), len(coarse)])
    whole, a, b, c, rest = np.split(scores, cuts)
    return Influence(
        whole[0],
        Scale(*_borders(fine), a, None),
        Scale(*_borders(coarse), b, c),
        rest if channels > 1 else None,
        len(parts),
    )


def choose_segments(channels: int, steps: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Fine and coarse segments whose rescoring keeps to `BUDGET`."""
    left = BUDGET - 1 - (min(channels, _MOST_CHANNELS) if channels > 1 else 0)
    fine = max(_FEWEST_FINE, min(_FINE, left - 8))
    coarse = max(2, (left - fine) // 2)
    return cut_evenly(steps, fine), cut_evenly(steps, coarse)


def cut_evenly(steps: int, count: int) -> list[tuple[int, int]]:
    """At most `count` segments, none of them empty."""
    borders = np.unique(np.linspace(0, steps, min(count, steps) + 1).round().astype(int))
    return [(int(a), int(b)) for a, b in pairwise(borders)]


def without_steps(window_CT: FloatArray, start: int, end: int) -> FloatArray:
    """The window with some steps missing in every channel."""
    left = window_CT.copy()
    left[:, start:end] = np.nan
    return keep_length(left, window_CT)


def only_steps(window_CT: FloatArray, start: int, end: int) -> FloatArray:
    """The window with all but some steps missing."""
    left = np.full_like(window_CT, np.nan)
    left[:, start:end] = window_CT[:, start:end]
    return keep_length(left, window_CT)


def without_channel(window_CT: FloatArray, channel: int) -> FloatArray:
    """The window with one channel missing."""
    left = window_CT.copy()
    left[channel] = np.nan
    return keep_length(left, window_CT)


def keep_length(left_CT: FloatArray, window_CT: FloatArray) -> FloatArray:
    """`left_CT`, changed so that its end is missing and not padding.

    A model takes a tail of missing steps for the end of the window, and would be asked about a shorter one.
    One channel's last value becomes the mean of what is left of it, which normalization makes a zero, as it
    makes missing values.
    """
    if not np.isnan(left_CT[:, -1]).all():
        return left_CT
    seen = ~np.isnan(left_CT)
    channel = int(seen.sum(axis=1).argmax())
    source = left_CT[channel][seen[channel]] if seen[channel].any() else window_CT[channel]
    source = source[~np.isnan(source)]
    left_CT[channel, -1] = source.mean(dtype=np.float64) if len(source) else 0.0
    return left_CT


def _borders(segments: Sequence[tuple[int, int]]) -> tuple[IndexArray, IndexArray]:
    starts, ends = np.array(segments, dtype=np.int64).T
    return starts, ends


def ranked(values: Any) -> IndexArray:
    """Indices by falling size, signs aside; ties go to the lower index."""
    return np.asarray(np.argsort(-np.abs(np.asarray(values, dtype=np.float64)), kind="stable"))
