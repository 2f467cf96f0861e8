"""`fit_rules`: for each class the rule of the shortest delay among those that keep a rate of false alarms.

A rule of k of n windows begins an event where the k-th largest of the last n scores reaches its threshold.
How often that happens in windows of other classes, at thresholds above those that the recordings show, is
extrapolated as usual for peaks over a threshold: peaks of the scores' logits beyond a high one fall off
exponentially. So a rate of one per day can be set on less than a day; what was counted is stated beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgesparse_runtime.arrays import BoolArray, DoubleArray
from edgesparse_runtime.operation.events.rule import EventRule
from edgesparse_runtime.operation.events.timeline import Tally, Track, count_events, is_apart

# k of n; the last ones are slow and believe a single window least.
CHOICES = (
    (1, 1),
    (2, 2),
    (2, 3),
    (3, 3),
    (3, 5),
    (5, 5),
    (5, 8),
    (8, 8),
    (8, 12),
    (12, 12),
    (16, 24),
    (24, 24),
)
# Peaks that the fall-off is estimated on.
_PEAKS = 20
# Fewer say nothing of a fall-off; then one score unit of this size is assumed.
_FEWEST_PEAKS, _USUAL_FALL = 3, 1.0
_LOGIT_LIMIT = 15.0
# How far below the beginning's threshold, in logits, an event may end.
_HYSTERESIS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
# An episode in which the event is never on counts as one with so many times its length as delay.
_MISSED = 2.0
_NOISE = 0.1
# Deviations by which a rate is taken for higher than estimated: one side of 95 %.
_CONFIDENCE = 1.645


def fit_rules(
    classes: Sequence[str], names: Sequence[str], tracks: Sequence[Track], windows_per_alarm: float
) -> list[EventRule | None]:
    """A rule per name; None where no rule keeps the rate and finds any episode.

    Args:
        classes: of the scores, in their order.
        names: classes that have events.
        windows_per_alarm: windows per false alarm, all classes together.
    """
    each = windows_per_alarm * len(names)
    return [fit_rule(name, classes.index(name), tracks, each) for name in names]


def fit_rule(name: str, column: int, tracks: Sequence[Track], windows_per_alarm: float) -> EventRule | None:
    """The rule of one class."""
    best: tuple[float, EventRule] | None = None
    for needed, windows in CHOICES:
        threshold = _threshold(name, column, tracks, needed, windows, windows_per_alarm)
        if threshold > _LOGIT_LIMIT:
            continue
        score = float(_from_logit(threshold))
        rule = EventRule(name, needed, windows, score, score, windows)
        tally = count_events(rule, column, tracks)
        if not tally.delays or tally.false_alarms > max(0.0, tally.windows / windows_per_alarm):
            continue
        cost = _mean_delay(tally, tracks, name)
        if best is None or cost < best[0]:
            best = (cost, rule)
    return None if best is None else _with_hysteresis(best[1], column, tracks)


def _threshold(
    name: str, column: int, tracks: Sequence[Track], needed: int, windows: int, windows_per_alarm: float
) -> float:
    """Logit that k of n windows of other classes reach once in `windows_per_alarm` windows."""
    peaks: list[float] = []
    count = 0
    for track in tracks:
        other = is_apart(track.labels == name, windows)
        count += int(other.sum())
        logits = _to_logit(track.scores[:, column].astype(np.float64))
        peaks += _peaks(_kth_largest(logits, needed, windows), other, windows)
    if not peaks:
        # No recording of other classes is long enough for this rule.
        return np.inf
    ordered = np.sort(np.array(peaks))[::-1]
    allowed = max(count / windows_per_alarm, 1e-12)
    used = min(len(ordered), _PEAKS)
    base = float(ordered[used - 1])
    fall = _USUAL_FALL
    if used >= _FEWEST_PEAKS:
        fall = max(float((ordered[: used - 1] - base).mean()), _NOISE)
    # Both the rate at the base and its fall are known to one part in the root of the peaks.
    away = max(0.0, float(np.log(used / allowed)))
    doubt = _CONFIDENCE * float(np.sqrt((1 + away**2) / used))
    return base + fall * (away + doubt) + 1e-6


def _peaks(values: DoubleArray, other: BoolArray, windows: int) -> list[float]:
    """The largest value of each stretch of `windows` windows of other classes: one alarm each."""
    found = []
    first = windows - 1
    for at in range(first, len(values), windows):
        part = values[at : at + windows][other[at : at + windows]]
        if len(part):
            found.append(float(part.max()))
    return found


def _kth_largest(values: DoubleArray, needed: int, windows: int) -> DoubleArray:
    """The k-th largest of each window and the n - 1 before it; before the n-th window, -infinity."""
    padded = np.concatenate([np.full(windows - 1, -np.inf), values])
    return np.asarray(np.sort(sliding_window_view(padded, windows), axis=1)[:, windows - needed])


def _mean_delay(tally: Tally, tracks: Sequence[Track], name: str) -> float:
    lengths = [end - first for track in tracks for first, end in track.episodes(name)]
    missed = tally.episodes - len(tally.delays)
    return (sum(tally.delays) + missed * _MISSED * float(np.mean(lengths))) / max(1, tally.episodes)


def _with_hysteresis(rule: EventRule, column: int, tracks: Sequence[Track]) -> EventRule:
    """The least hysteresis with which an episode is one event, and as few false alarms as without."""
    enter = float(_to_logit(np.array(rule.enter)))
    plain = best = count_events(rule, column, tracks)
    chosen = rule
    for gap in _HYSTERESIS[1:]:
        if best.begun <= max(1, len(best.delays)):
            break
        leave = float(_from_logit(enter - gap))
        wider = EventRule(rule.name, rule.needed, rule.windows, rule.enter, leave, rule.refractory)
        tally = count_events(wider, column, tracks)
        if tally.false_alarms > plain.false_alarms or len(tally.delays) < len(plain.delays):
            break
        if tally.begun < best.begun:
            chosen, best = wider, tally
    return chosen


def _to_logit(score: DoubleArray) -> DoubleArray:
    tiny = 1.0 / (1.0 + np.exp(_LOGIT_LIMIT))
    clipped = np.clip(score, tiny, 1 - tiny)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _from_logit(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-logit)))
