"""Lines of the proof about events: false alarms of fitted rules on recordings that they have not seen."""

from __future__ import annotations

import numpy as np

from benchmarks.proofs.lines import Line, line
from benchmarks.proofs.operation.real_streams import make_tracks as make_event_tracks
from benchmarks.proofs.operation.real_streams import read_pool
from benchmarks.proofs.operation.score_streams import make_tracks
from benchmarks.support.settings import QUICK
from edgesparse_runtime.operation.events.fit import fit_rule
from edgesparse_runtime.operation.events.model import plain_rule, poisson_interval
from edgesparse_runtime.operation.events.timeline import Tally, count_events

# Recordings that rules are fitted on, and new ones; windows per false alarm that the rules are fitted for.
FITTED, NEW, FITS = 12, 20 if QUICK else 100, 4 if QUICK else 10
EVENT_WINDOWS = 20_000
# Real recordings are fewer.
REAL_EVENT_WINDOWS = 2_000


def compare_events(kind: str) -> Line:
    """False alarms of fitted rules on recordings that they were not fitted on, beside single windows."""
    tally, plain = Tally(), Tally()
    for fit in range(FITS):
        rule = fit_rule("fault", 1, make_tracks(kind, 2 * fit, FITTED), EVENT_WINDOWS)
        if rule is None:
            return line(f"false alarms of fitted events, {kind}", False, "no rule", "a rule")
        new = make_tracks(kind, 2 * fit + 1, NEW)
        tally.add(count_events(rule, 1, new))
        plain.add(count_events(plain_rule("fault"), 1, new))
    per = EVENT_WINDOWS / tally.windows
    low, high = (per * x for x in poisson_interval(tally.false_alarms))
    # What was asked for is refuted only where the whole interval lies above it.
    note = (
        f"95 % interval {low:.2f} to {high:.2f}, {FITS} fits, {tally.windows:,} windows; found "
        f"{tally.found:.1%} of {tally.episodes}, median delay {np.median(tally.delays):.0f} windows; "
        "single windows over 0.5: "
        f"{per * plain.false_alarms:.1f} false alarms, delay {np.median(plain.delays):.0f}"
    )
    figure = f"{per * tally.false_alarms:.2f} per {EVENT_WINDOWS:,} windows"
    return line(
        f"false alarms of fitted events, {kind}",
        low <= 1,
        figure,
        "at most 1, by the lower end of the interval",
        note,
    )


def compare_real_events(name: str) -> Line:
    """The same on real recordings: rules are fitted on half of them and tried on the other half."""
    pool, found, plain, missing = read_pool(name), Tally(), Tally(), 0
    event = pool.classes[0]
    for fit in range(FITS):
        first, second = pool.halves(fit)
        rule = fit_rule(event, 0, make_event_tracks(first, event, fit), REAL_EVENT_WINDOWS)
        if rule is None:
            missing += 1
            continue
        new = make_event_tracks(second, event, FITS + fit)
        found.add(count_events(rule, 0, new))
        plain.add(count_events(plain_rule(event), 0, new))
    title, asked = f"false alarms of fitted events, recordings of {name}", f"{REAL_EVENT_WINDOWS:,} windows"
    if missing == FITS:
        return line(title, False, "no rule", "a rule")
    # Halves of the same recordings are not independent: the interval is that of one of them.
    made = FITS - missing
    per = REAL_EVENT_WINDOWS / (found.windows / made)
    low, high = (per * x for x in poisson_interval(round(found.false_alarms / made)))
    note = (
        f"event {event}; 95 % interval {low:.2f} to {high:.2f} of one half, {made} halves of "
        f"{found.windows // made:,} windows, {missing} without a rule; found {found.found:.1%} of "
        f"{found.episodes}, median delay {np.median(found.delays):.0f} windows; single windows over 0.5: "
        f"{REAL_EVENT_WINDOWS * plain.false_alarms / plain.windows:.1f} false alarms"
    )
    figure = f"{REAL_EVENT_WINDOWS * found.false_alarms / found.windows:.2f} per {asked}"
    return line(title, low <= 1, figure, "at most 1, by the lower end of the interval", note)
