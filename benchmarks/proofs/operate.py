"""`make prove-operate`: a changed line is noticed: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. QUICK=1 takes fewer streams. Each detector is measured on the
same streams: one machine of three channels, watched by level, spread and relation of its channels, top score
and class, as `edgesparse monitor` does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.proofs.drift_rivals import RIVALS
from benchmarks.proofs.drift_streams import KINDS, SHIFTS, Streams, ar, make_stationary
from benchmarks.proofs.lines import Line, finish, line, machine_now, show
from benchmarks.support.settings import QUICK, SCRATCH, report_path
from benchmarks.support.stored_cases import StoredCases, hash_files
from edgesparse.config import RunConfig, TrainingConfig
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.operation.monitor.blocks import block_means
from edgesparse_runtime.operation.monitor.detector import Detector
from edgesparse_runtime.operation.monitor.reference import Learned, Reference, learn
from edgesparse_runtime.operation.monitor.signals import Signals
from edgesparse_runtime.operation.monitor.watch import Watch
from edgesparse_runtime.session import Session
from tests.support.paths import ROOT
from tests.support.synthetic import make_series

STREAMS = 20 if QUICK else 200
# Windows of the reference, and after it; correlated streams have longer ones.
LEARNED, WATCHED = 20_000, 20_000
SLOW = {"AR(1) 0.98": 3}
# One false alarm in so many windows: on average one stream in ten may alarm.
RATE_WINDOWS = 10 * WATCHED
SHIFT_STREAMS = 5 if QUICK else 20
_COST_STEPS = 1_460


def first_alarm(reference: Reference, later_NS: DoubleArray, threshold: float) -> int:
    """Windows until the first alarm; -1 = none."""
    block = reference.blocks.windows
    detector = Detector(reference.blocks.tolerance)
    for i, means in enumerate(block_means(reference.ranks(later_NS), block)):
        if float(detector.update(means)) >= threshold:
            return (i + 1) * block
    return -1


def compare_stationary(kind: str) -> Line:
    """False alarms on streams that do not change, beside those of other detectors."""
    scale = SLOW.get(kind, 1)
    watched, count = scale * WATCHED, STREAMS
    alarms, refused = 0, 0
    rivals = dict.fromkeys(RIVALS, 0)
    for seed in range(count):
        values = make_stationary(kind, scale * LEARNED + watched, seed)
        before, after = values[: scale * LEARNED], values[scale * LEARNED :]
        reference = learn([f"s{i}" for i in range(values.shape[1])], before, Learned(len(before)))
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


def compare_memory() -> Line:
    """A stream of ten million windows."""
    count = 200_000 if QUICK else 10_000_000
    reference = learn("abcdefgh", ar(0.5, 4_000, 8, 0), Learned(4_000))
    watch = Watch(reference, 1e12)
    rows = ar(0.5, 4_096, 8, 1)
    tracemalloc.start()
    for row in rows:
        watch.add(row)
    first = tracemalloc.get_traced_memory()[0]
    for i in range(count):
        watch.add(rows[i % len(rows)])
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    return line(
        f"a stream of {count:,} windows at constant memory",
        grown < 10_000,
        f"{grown:,} bytes more",
        "under 10,000 bytes",
    )


def compare_size() -> Line:
    """What one monitor of a typical model holds."""
    names = [f"signal {i}" for i in range(24)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    values = ar(0.5, 4_000, 24, 0)
    reference = learn(names, values, Learned(4_000))
    del values
    watch = Watch(reference, 1e9)
    held = tracemalloc.get_traced_memory()[0] - before
    state = len(str(watch.to_dict()))
    tracemalloc.stop()
    return line(
        "memory of a monitor of 24 signals",
        held < 1 << 20,
        f"{held / 1e6:.3f} MB",
        "at most 1 MB",
        f"state {state:,} bytes",
    )


def compare_cost() -> Line:
    """Time of the monitor per window beside a prediction of the quickstart's window."""
    session = open_model()
    rng = np.random.default_rng(0)
    window = rng.standard_normal((1, _COST_STEPS)).astype(np.float32)
    signals = Signals(session.channels or (), session.classes)
    scores = session.predict(window)[0]
    # Three windows of four share steps, as streams cut them by default.
    values = ar(0.75, 4_000, len(signals.names), 0)
    watch = Watch(learn(signals.names, values, Learned(len(values), 4)), 1e9)

    def predict() -> None:
        session.predict(window)

    def observe() -> None:
        watch.add(signals.of_window(window, scores))

    pairs = [(seconds_of(observe, 400), seconds_of(predict, 40)) for _ in range(9)]
    own, model = (min(times) for times in zip(*pairs, strict=True))
    return line(
        "time of the monitor per prediction",
        own <= 0.03 * model,
        f"{own / model:.1%}",
        "at most 3 %",
        f"{own * 1e6:.1f} us beside {model * 1e6:,.0f} us",
    )


def seconds_of(work: Callable[[], None], count: int) -> float:
    """Mean time of one call."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count


def open_model() -> Session:
    """A model of the default size for windows of the quickstart's length, trained for a moment."""
    series = make_series(16, channels=1, steps=_COST_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(training=TrainingConfig(epochs=1))
        run = train(series, config, Path(folder) / "run", quiet=True)
        bundle, _ = export_run(run, Path(folder) / "cost.edgesparse", data=series)
        return Session(bundle, threads=1)


def main() -> int:
    """Measures everything, writes prove_operate.json."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    machine = machine_now()
    sources = [
        *(ROOT / "runtime/edgesparse_runtime/operation/monitor").glob("*.py"),
        *Path(__file__).parent.glob("*.py"),
    ]
    store = StoredCases(SCRATCH / "operate", hash_files(sources), QUICK)
    cases: dict[str, Callable[[], Line]] = {
        **{kind: partial(compare_stationary, kind) for kind in KINDS},
        **{name: partial(compare_shift, name) for name in SHIFTS},
        "size": compare_size,
        "memory": compare_memory,
        "cost": compare_cost,
    }
    lines: list[Line] = []
    for name, compare in cases.items():
        is_stored = name in store
        found: Line = store.get(name, compare)
        lines.append(show(found) if is_stored else found)
    return finish(report_path("prove_operate"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
