"""The events' side of a model: rules of its bundle, and tracks of a data file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import known_labels
from edgesparse_runtime.operation.events.fit import fit_rules
from edgesparse_runtime.operation.events.rule import EventRule
from edgesparse_runtime.operation.events.timeline import DAY, Tally, Track, count_events
from edgesparse_runtime.session import Session

_FOLDS = 5


def tracks_of(session: Session, data: SeriesSet) -> list[Track]:
    """Scores and labels of the recordings of a data file.

    Raises:
        InputError: the data were not cut from recordings, or have labels that the model does not know.
    """
    if data.recordings is None or data.grid.window is None:
        raise InputError(
            f"{data.source} must hold recordings that are cut into windows; it holds whole series. "
            "Use --window and --stride."
        )
    assert data.labels is not None
    labels = np.asarray(known_labels(data.labels, session.classes, data.source), dtype=np.str_)
    scores = session.predict(data)
    groups = data.recordings if data.groups is None else data.groups
    names, first = np.unique(data.recordings, return_index=True)
    found = []
    for name in names[np.argsort(first)]:
        rows = np.flatnonzero(data.recordings == name)
        found.append(Track(scores[rows], labels[rows], str(groups[rows[0]])))
    return found


def hold_out(
    classes: Sequence[str], names: Sequence[str], tracks: Sequence[Track], windows_per_alarm: float
) -> dict[str, Tally] | None:
    """What rules do on recordings that they were not fitted on: each group is left out once.

    Returns:
        A tally per class; None of one single group.
    """
    groups = sorted({track.group for track in tracks})
    if len(groups) < 2:
        return None
    found = {name: Tally() for name in names}
    for fold in range(min(_FOLDS, len(groups))):
        out = set(groups[fold::_FOLDS])
        kept = [track for track in tracks if track.group not in out]
        left = [track for track in tracks if track.group in out]
        for name, rule in zip(names, fit_rules(classes, names, kept, windows_per_alarm), strict=True):
            if rule is not None:
                found[name].add(count_events(rule, classes.index(name), left))
            else:
                found[name].add(_nothing(name, left))
    return found


def _nothing(name: str, tracks: Sequence[Track]) -> Tally:
    return Tally(
        windows=sum(int((track.labels != name).sum()) for track in tracks),
        episodes=sum(len(track.episodes(name)) for track in tracks),
    )


def plain_rule(name: str) -> EventRule:
    """What is done without rules: an event where a window's score is over a half."""
    return EventRule(name, 1, 1, 0.5, 0.5, 0)


def describe(tally: Tally, seconds_per_window: float | None) -> dict[str, Any]:
    """A tally as figures: counts, rate with its 95 % interval, delay."""
    low, high = poisson_interval(tally.false_alarms)
    unit = seconds_per_window or 1.0
    span = tally.windows * unit / (DAY if seconds_per_window else 1e5)
    per = "per_day" if seconds_per_window else "per_100000_windows"
    delays = np.array(tally.delays) * unit
    delay = "delay_s" if seconds_per_window else "delay_windows"
    return {
        "false_alarms": tally.false_alarms,
        f"false_alarms_{per}": [round(x / span, 4) for x in (tally.false_alarms, low, high)]
        if span
        else None,
        "windows_of_others": tally.windows,
        "episodes": tally.episodes,
        "found": round(tally.found, 4),
        f"{delay}_median": round(float(np.median(delays)), 4) if len(delays) else None,
        f"{delay}_90": round(float(np.quantile(delays, 0.9)), 4) if len(delays) else None,
    }


def poisson_interval(count: int) -> tuple[float, float]:
    """The exact 95 % interval of a Poisson mean."""
    return (
        0.0 if count == 0 else _solve(lambda mean: 1 - _at_most(count - 1, mean), 0.025),
        _solve(lambda mean: -_at_most(count, mean), -0.025),
    )


def _at_most(count: int, mean: float) -> float:
    """P(N <= count)."""
    k = np.arange(count + 1)
    logs = k * np.log(mean) - mean - np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    return float(np.exp(logs).sum())


def _solve(rises: Any, target: float) -> float:
    low, high = 1e-9, 10.0
    while rises(high) < target:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < target else (low, middle)
    return high
