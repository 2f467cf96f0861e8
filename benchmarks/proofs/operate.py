"""`make prove-operate`: a changed line is noticed, a changed model can go back: PASS or FAIL, figure, target.

Exits 1 when one fails; writes the same as JSON. QUICK=1 takes fewer streams. Each detector is measured on the
same streams: one machine of three channels, watched by level, spread and relation of its channels, top score
and class, as `edgesparse monitor` does. Events are measured on generated scores: this shows that a rate is
kept on recordings that were not fitted on, and nothing of any one data set.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.proofs.lines import Line, finish, line, machine_now, show
from benchmarks.proofs.operation.drift_lines import compare_real, compare_shift, compare_stationary
from benchmarks.proofs.operation.drift_streams import KINDS, SHIFTS, ar
from benchmarks.proofs.operation.event_lines import compare_events, compare_real_events
from benchmarks.proofs.operation.full_update import SETS as UPDATE_SETS
from benchmarks.proofs.operation.full_update import measure_update
from benchmarks.proofs.operation.real_streams import SETS as REAL_SETS
from benchmarks.proofs.operation.score_streams import KINDS as SCORE_KINDS
from benchmarks.proofs.operation.unknown_lines import unknown_lines
from benchmarks.proofs.operation.unknown_windows import QUICK_SETS, SETS, measure_set
from benchmarks.support.settings import QUICK, SCRATCH, report_path
from benchmarks.support.stored_cases import StoredCases, hash_files
from edgesparse.config import RunConfig, TrainingConfig
from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.monitor.reference import Learned, learn
from edgesparse_runtime.stream.monitor.signals import Signals
from edgesparse_runtime.stream.monitor.watch import Watch
from tests.support.paths import ROOT
from tests.support.synthetic import make_series

_COST_STEPS = 1_460
_ROLLOUT = "tests/runtime/operation/rollout/test_store.py"
_KILLS = "tests/system/operation/test_kills.py"
QUICK_REAL = ("FreezerSmallTrain",)
KILLS = 20 if QUICK else 200
UNKNOWN_SOURCES = [
    *(ROOT / "edgesparse/unknown").glob("*.py"),
    *(ROOT / "edgesparse/closed_form").glob("*.py"),
    *(ROOT / "edgesparse/model").glob("*.py"),
    ROOT / "runtime/edgesparse_runtime/data/sensors/channel_order.py",
    ROOT / "runtime/edgesparse_runtime/data/sensors/input_check.py",
    Path(__file__).parent / "operation/unknown_windows.py",
]
UPDATE_SOURCES = [
    *(ROOT / "edgesparse/closed_form").glob("*.py"),
    *(ROOT / "edgesparse/model").glob("*.py"),
    ROOT / "runtime/edgesparse_runtime/operation/update/reservoir.py",
    Path(__file__).parent / "operation/full_update.py",
]


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


def compare_cost(routing: bool = False) -> Line:
    """Time of the monitor per window beside an int8 prediction of the quickstart's window."""
    session = open_model()
    rng = np.random.default_rng(0)
    window = rng.standard_normal((1, _COST_STEPS)).astype(np.float32)
    layers = len(session.selection_names) if routing else 0
    signals = Signals(session.channels or (), session.classes, layers=layers)
    scores, _, selections = session.predict_with_selections(window)
    # Three windows of four share steps, as streams cut them by default.
    values = ar(0.75, 4_000, len(signals.names), 0)
    watch = Watch(learn(signals.names, values, Learned(len(values), 4)), 1e9)

    def predict() -> None:
        session.predict(window)

    def observe() -> None:
        watch.add(signals.of_window(window, scores[0], selections if routing else ()))

    pairs = [(seconds_of(observe, 400), seconds_of(predict, 40)) for _ in range(9)]
    own, model = (min(times) for times in zip(*pairs, strict=True))
    figure, note = f"{own / model:.1%}", f"{own * 1e6:.1f} us beside {model * 1e6:,.0f} us, int8"
    if routing:
        return line("time of the monitor per prediction, with --routing", None, figure, note=note)
    return line("time of the monitor per prediction", own <= 0.03 * model, figure, "at most 3 %", note)


def show_update(name: str, found: dict[str, float]) -> Line:
    """Old and new windows together, a reservoir of the old: beside everything, and beside the champion."""
    behind = found["everything new"] - found["challenger new"]
    lost = found["champion old"] - found["challenger old"]
    return line(
        f"update --mode full with half of the old windows, {name}",
        behind <= 0.02 and lost <= 0.01,
        f"new {found['challenger new']:.3f}, old {found['challenger old']:.3f}",
        "new within 2 points of training on everything, old down at most 1 point",
        f"everything {found['everything new']:.3f}, {found['everything old']:.3f}; champion "
        f"{found['champion new']:.3f}, {found['champion old']:.3f}; reservoir {found['reservoir']:.0f} of "
        f"{found['old windows']:.0f}, {found['new windows']:.0f} new",
    )


def compare_tests(name: str, target: str, *nodes: str, **environment: str) -> Line:
    """A claim that tests hold."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *nodes]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    printed = done.stdout.strip().splitlines() or ["no output"]
    reasons = [text[1:].strip() for text in printed if text.startswith("E  ")]
    return line(name, done.returncode == 0, printed[-1], target, " ".join(reasons)[:500])


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
        bundle, _ = quantize_bundle(bundle, data=series, max_drop=1.0)
        return Session(bundle, threads=1)


def _cases() -> dict[str, Callable[[], Line]]:
    """Each line that is measured by itself, in the order of printing."""
    real = QUICK_REAL if QUICK else tuple(REAL_SETS)
    return {
        **{kind: partial(compare_stationary, kind) for kind in KINDS},
        **{name: partial(compare_shift, name) for name in SHIFTS},
        "size": compare_size,
        "memory": compare_memory,
        "cost": compare_cost,
        "cost with routing": partial(compare_cost, routing=True),
        **{f"events {kind}": partial(compare_events, kind) for kind in SCORE_KINDS},
        **{f"real {name}": partial(compare_real, name) for name in real},
        **{f"events {name}": partial(compare_real_events, name) for name in real},
        "kills": partial(
            compare_tests,
            f"kill -9 during try, confirm and rollback, {KILLS} times",
            "one valid bundle is current each time",
            f"{_ROLLOUT}::test_kill_9_leaves_one_valid_bundle",
            EDGESPARSE_KILLS=str(KILLS),
        ),
        "kills of verbs": partial(
            compare_tests,
            f"kill -9 during monitor learn, update, rollout try and rollback, {KILLS} times",
            "champion, challenger and current bundle whole each time, nothing half-written",
            f"{_KILLS}::test_kill_9_leaves_whole_bundles",
            EDGESPARSE_KILLS=str(KILLS),
        ),
        "full disk": partial(
            compare_tests,
            f"a full disk during the same verbs, {KILLS} times",
            "one line each, and nothing is lost",
            f"{_KILLS}::test_a_full_disk_is_one_line_and_loses_nothing",
            EDGESPARSE_KILLS=str(KILLS),
        ),
        "head": partial(
            compare_tests,
            "update --mode head in a process that cannot import torch, onnx and scipy",
            "a better challenger",
            "tests/system/operation/test_update.py::test_a_challenger_is_better_on_new_data",
        ),
    }


def main() -> int:
    """Measures everything, writes prove_operate.json."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    machine = machine_now()
    sources = [
        *(ROOT / "runtime/edgesparse_runtime/stream/monitor").glob("*.py"),
        *(ROOT / "runtime/edgesparse_runtime/operation").rglob("*.py"),
        *Path(__file__).parent.glob("operat*/*.py"),
        Path(__file__),
    ]
    store = StoredCases(SCRATCH / "operate", hash_files(sources), QUICK)
    cases = _cases()
    lines: list[Line] = []
    for name, compare in cases.items():
        is_stored = name in store
        found: Line = store.get(name, compare)
        lines.append(show(found) if is_stored else found)
    names = QUICK_SETS if QUICK else SETS
    code = hash_files(UNKNOWN_SOURCES)
    told = StoredCases(SCRATCH / "operate", code)
    lines += unknown_lines({name: told.get(f"unknown {name}", partial(measure_set, name)) for name in names})
    updates = list(UPDATE_SETS)[3:] if QUICK else list(UPDATE_SETS)
    lines += [
        show_update(name, told.get(f"update {name}", partial(measure_update, name))) for name in updates
    ]
    return finish(report_path("prove_operate"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
