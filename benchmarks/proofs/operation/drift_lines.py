"""Lines of the proof about drift: false alarms on streams that do not change, and shifts that are found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.proofs.lines import Line, line
from benchmarks.proofs.operation.drift_rivals import RIVALS
from benchmarks.proofs.operation.drift_streams import Streams, make_stationary
from benchmarks.proofs.operation.real_streams import OVERLAP, make_stream, read_pool
from benchmarks.support.settings import QUICK
from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.stream.monitor.blocks import block_means
from edgesparse_runtime.stream.monitor.detector import Detector
from edgesparse_runtime.stream.monitor.reference import Learned, Reference, learn

STREAMS = 20 if QUICK else 200
# Windows of the reference, and after it; correlated streams have longer ones.
LEARNED, WATCHED = 20_000, 20_000
SLOW = {"AR(1) 0.98": 3}
# One false alarm in so many windows: on average one stream in ten may alarm.
RATE_WINDOWS = 10 * WATCHED
SHIFT_STREAMS = 5 if QUICK else 20


def first_alarm(reference: Reference, later_NS: DoubleArray, threshold: float) -> int:
    """Windows until the first alarm; -1 = none."""
    block = reference.blocks.windows
    detector = Detector(reference.blocks.tolerance)
    for i, means in enumerate(block_means(reference.ranks(later_NS), block)):
        if float(detector.update(means)) >= threshold:
            return (i + 1) * block
    return -1


def compare_stationary(kind: str) -> Line:
    """False alarms on generated streams that do not change, beside those of other detectors."""
    scale = SLOW.get(kind, 1)
    return _count_false_alarms(kind, partial(make_stationary, kind), scale)


def compare_real(name: str) -> Line:
    """The same on real windows: held-out recordings in random order, windows overlapping by 75 %."""
    pool = read_pool(name)
    return _count_false_alarms(
        f"real windows of {name}", lambda count, seed: make_stream(pool, count, seed), overlap=OVERLAP
    )


def _count_false_alarms(
    kind: str, make: Callable[[int, int], DoubleArray], scale: int = 1, overlap: int = 1
) -> Line:
    watched, count = scale * WATCHED, STREAMS
    alarms, refused = 0, 0
    rivals = dict.fromkeys(RIVALS, 0)
    for seed in range(count):
        values = make(scale * LEARNED + watched, seed)
        before, after = values[: scale * LEARNED], values[scale * LEARNED :]
        names = [f"s{i}" for i in range(values.shape[1])]
        reference = learn(names, before, Learned(len(before), overlap))
        refused += bool(reference.blocks.problem)
        threshold = scale * RATE_WINDOWS / reference.blocks.windows
        alarms += first_alarm(reference, after, threshold) >= 0
        for name, detect in RIVALS.items():
            rivals[name] += detect(before[:, 0], after[:, 0], seed) >= 0
    allowed = watched / (scale * RATE_WINDOWS)
    target = f"at most {allowed:.0%} of streams, the stated rate over {watched:,} windows"
    others = ", ".join(f"{name} {n / count:.0%}" for name, n in rivals.items())
    note = f"of {count}; {others}; {refused} references too small for a promise"
    return line(f"false alarms, {kind}", alarms / count <= allowed, f"{alarms / count:.1%}", target, note)


def compare_shift(name: str) -> Line:
    """Windows until a shift of one standard deviation is found, on raw windows of three channels."""
    delays: list[int] = []
    others: dict[str, list[int]] = {rival: [] for rival in RIVALS}
    early = dict.fromkeys(RIVALS, 0)
    for seed in range(SHIFT_STREAMS):
        streams = Streams(seed)
        before = streams.signals(8_000)
        quiet = streams.signals(2_000)
        after = streams.signals(8_000, name)
        reference = learn(streams.names, before, Learned(len(before)))
        threshold = RATE_WINDOWS / reference.blocks.windows
        found = first_alarm(reference, np.concatenate([quiet, after]), threshold)
        if found > len(quiet):
            delays.append(found - len(quiet))
        column = streams.carrier(name)
        for rival, detect in RIVALS.items():
            hit = detect(before[:, column], np.concatenate([quiet[:, column], after[:, column]]), seed)
            early[rival] += 0 <= hit <= len(quiet)
            if hit > len(quiet):
                others[rival].append(hit - len(quiet))
    share = len(delays) / SHIFT_STREAMS
    middle = f"{np.median(delays):,.0f} windows" if delays else "none"
    beside = ", ".join(
        f"{rival} {np.median(found):,.0f}" if found else f"{rival} none in time"
        for rival, found in others.items()
    )
    alarmed = ", ".join(f"{rival} {n / SHIFT_STREAMS:.0%}" for rival, n in early.items())
    note = f"found in {share:.0%} of {SHIFT_STREAMS}; {beside}; alarmed before the shift: {alarmed}"
    return line(
        f"shift of one deviation, {name}",
        share == 1.0,
        f"median delay {middle}",
        "found in every stream",
        note,
    )
