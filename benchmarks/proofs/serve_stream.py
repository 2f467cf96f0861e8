"""The claims about streams, for `make prove-serve`; alone: `python -m benchmarks.proofs.serve_stream`.

- A million samples with gaps and late arrivals, as CSV through the pipe of a real
  `edgesparse run --follow`, give the scores that offline windows give.
- A causal model fed sample by sample gives what its full-window run gives, at every sample.
- At 2,048 steps a new sample costs at most a tenth of the full window.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.proofs.lines import Line, finish, line, machine_now
from benchmarks.serving.versions import version_of
from benchmarks.support.interleaved import find_ratio
from benchmarks.support.machine import machine_facts
from benchmarks.support.settings import QUICK, SCRATCH
from benchmarks.support.stored_cases import StoredCases
from edgesparse.config import RunConfig, TrainingConfig
from edgesparse.presets import tiny
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.step.token_stream import StepModel, TokenStream
from tests.support.paths import source_environment
from tests.support.recordings.streams import Disturbed, disturb, offline_segments
from tests.support.tolerances import ENGINES

WORK = SCRATCH / "stream"
SAMPLES = 50_000 if QUICK else 1_000_000
STEPS, CHANNELS = 2_048, 2
PERIOD, LATENESS, MAX_GAP, WINDOW, STRIDE = 0.02, 0.2, 20, 512, 100
MOST_OF_WINDOW = 0.1
# Samples that hold one full block, so that each round pays for exactly one.
ROUNDS = 8 if QUICK else 40

FloatArray = npt.NDArray[np.float32]


def make_recording(steps: int, seed: int) -> FloatArray:
    """Two machine states that alternate, [channels, steps]."""
    rng = np.random.default_rng(seed)
    time_ = np.arange(steps)
    frequency = np.where(time_ // 1_700 % 2, 0.15, 0.4)
    wave = np.sin(np.cumsum(frequency) + np.arange(CHANNELS)[:, None])
    return (wave + 0.3 * rng.standard_normal((CHANNELS, steps))).astype(np.float32)


def make_bundle(folder: Path, *, causal: bool, steps: int) -> Bundle:
    """The preset `tiny`, trained for a few steps on windows of two kinds; taken up where it is there."""
    path = folder / f"{'causal' if causal else 'plain'}-{steps}-{version_of('stream')}.edgesparse"
    if path.exists():
        return open_bundle(path)
    rng = np.random.default_rng(0)
    kinds = np.arange(24) % 2
    series = [
        (
            np.sin(np.arange(steps) * (0.15 if kind else 0.4) + rng.uniform(0, 6, (CHANNELS, 1)))
            + 0.3 * rng.standard_normal((CHANNELS, steps))
        ).astype(np.float32)
        for kind in kinds
    ]
    data = SeriesSet(series, ("current", "voltage"), np.where(kinds, "slow", "fast"), source="made")
    config = RunConfig(
        model=replace(tiny(), causal=causal),
        training=TrainingConfig(epochs=2, min_steps=4, batch_size=8),
    )
    out = folder / f"run-{path.stem}"
    shutil.rmtree(out, ignore_errors=True)
    run = train(data, config, out, quiet=True)
    return export_run(run, path, data=data)[0]


def write_lines(case: Disturbed, path: Path) -> None:
    """The samples as CSV in the order in which they arrive."""
    rows = zip(case.times[case.order].tolist(), case.values[:, case.order].T.tolist(), strict=True)
    with path.open("w") as stream:
        stream.write("time,current,voltage\n")
        stream.writelines(f"{t:.6f},{a!r},{b!r}\n" for t, (a, b) in rows)


def million() -> dict[str, Any]:
    """The stream as a process against offline windows."""
    bundle = make_bundle(WORK, causal=False, steps=WINDOW)
    case = disturb(make_recording(SAMPLES, 1), period=PERIOD, lateness=LATENESS, max_gap=MAX_GAP, seed=1)
    source = WORK / "samples.csv"
    write_lines(case, source)
    command = [sys.executable, "-m", "edgesparse_runtime.cli", "run", str(bundle.path), "-", "--follow"]
    command += ["--window", str(WINDOW), "--stride", str(STRIDE), "--period", str(PERIOD)]
    command += ["--lateness", str(LATENESS), "--max-gap", str(MAX_GAP), "--threads", "1"]
    start = time.perf_counter()
    with source.open() as stdin:
        result = subprocess.run(
            command,
            stdin=stdin,
            capture_output=True,
            text=True,
            env=source_environment(),
            check=False,
        )
    seconds = time.perf_counter() - start
    source.unlink()
    if result.returncode:
        return {"rc": result.returncode, "output": result.stderr[-1000:]}
    *lines, summary = [json.loads(row) for row in result.stdout.splitlines()]
    actual = np.array([list(row["scores"].values()) for row in lines])
    segments = offline_segments(case, MAX_GAP)
    windows = [
        (i, segment[:, k : k + WINDOW])
        for i, segment in enumerate(segments)
        for k in range(0, segment.shape[1] - WINDOW + 1, STRIDE)
    ]
    session = Session(bundle, precision="float32", threads=1)
    expected = session.predict(np.stack([window for _, window in windows]))
    same_shape = actual.shape == expected.shape
    difference = np.abs(actual - expected) if same_shape else np.array([np.inf])
    allowed = ENGINES.absolute + ENGINES.relative * np.abs(expected)
    return {
        "rc": 0,
        "windows": len(lines),
        "expected": len(windows),
        "wrong": int((difference > allowed).any(-1).sum()) if same_shape else len(windows),
        "largest_difference": float(difference.max()),
        "segments_right": [row["segment"] for row in lines] == [i for i, _ in windows],
        "late_sent": case.late,
        "summary": summary,
        "seconds": seconds,
    }


def causal() -> dict[str, Any]:
    """A causal model sample by sample against full windows: scores, then time, interleaved."""
    bundle = make_bundle(WORK, causal=True, steps=STEPS)
    session = Session(bundle, precision="float32", threads=1)
    model = StepModel.open(bundle, threads=1)
    window = make_recording(STEPS, 2)
    window[:, 300:309] = np.nan
    stream = TokenStream(model, STEPS)
    every = np.stack([scores for x in window.T if (scores := stream.push(x)) is not None])
    # The naive twin: the whole window up to the sample. At every token in one run, elsewhere one run each.
    patch = model.facts.steps_per_token
    at_tokens = session.token_scores(window)[0]
    difference = np.abs(every[patch - 1 :: patch] - at_tokens)
    allowed = ENGINES.absolute + ENGINES.relative * np.abs(at_tokens)
    wrong = int((difference > allowed).any(-1).sum())
    largest = float(difference.max())
    # A window must hold a token.
    others = [k for k in range(patch, STEPS, 61 if QUICK else 7) if (k + 1) % patch]
    for k in others:
        twin = session.predict(window[:, : k + 1])[0]
        difference = np.abs(every[k] - twin)
        wrong += bool((difference > ENGINES.absolute + ENGINES.relative * np.abs(twin)).any())
        largest = max(largest, float(difference.max()))
    return {"compared": len(at_tokens) + len(others), "wrong": wrong, "largest_difference": largest} | (
        cost(session, model, make_recording(STEPS, 3))
    )


def cost(session: Session, model: StepModel, window: FloatArray) -> dict[str, Any]:
    """Milliseconds of a new sample with its score, at the end of 2,048 steps, and of the full window."""
    a_round = model.facts.steps_per_token * model.facts.block_size
    samples, sample_times, window_times = [], [], []
    for _ in range(ROUNDS + 1):
        stream = TokenStream(model, STEPS)
        for x in window.T[: STEPS - a_round]:
            stream.push(x, wants_scores=False)
        times = []
        for x in window.T[STEPS - a_round :]:
            start = time.perf_counter()
            stream.push(x)
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        session.predict(window)
        window_times.append(time.perf_counter() - start)
        sample_times.append(sum(times) / len(times))
        samples += times
    # The first round is a warm-up.
    share = find_ratio(sample_times[1:], window_times[1:])
    return {
        "a_round": a_round,
        "sample_ms": share.ours_ms,
        "sample_p99_ms": float(np.quantile(samples[a_round:], 0.99)) * 1e3,
        "sample_max_ms": max(samples[a_round:]) * 1e3,
        "window_ms": share.rival_ms,
        "times_cheaper": share.value,
        "low": share.low,
        "high": share.high,
        "engine": session.engine,
        "tokens": STEPS // model.facts.steps_per_token,
    }


def compare_stream(store: StoredCases) -> list[Line]:
    """Measures what is not stored yet; prints and returns a line each.

    Args:
        store: of these figures, by code and machine.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    found = store.get("million", million)
    name = f"{SAMPLES:,} samples with gaps and late arrivals against offline windows"
    if found["rc"]:
        lines = [line(name, False, f"exit code {found['rc']}: {found['output']}", "same scores")]
    else:
        counted = found["summary"]
        right = found["windows"] == found["expected"] > 0 and found["segments_right"] and not found["wrong"]
        told = counted["late"] == found["late_sent"] and counted["malformed"] == 0
        figure = (
            f"{found['windows']} of {found['expected']} windows, {found['wrong']} differ, largest difference "
            f"{found['largest_difference']:.1e}; {counted['late']} of {found['late_sent']} late counted, "
            f"{counted['filled']} filled, {counted['restarts']} restarts"
        )
        lines = [
            line(name, right and told, figure, "same windows and scores, all late ones counted"),
            line("  rate", None, f"{counted['samples'] / found['seconds']:,.0f} samples/s", ""),
        ]
    found = store.get("causal", causal)
    figure = (
        f"{found['wrong']} of {found['compared']} differ, "
        f"largest difference {found['largest_difference']:.1e}"
    )
    lines.append(
        line("causal, sample by sample against the full window", found["wrong"] == 0, figure, "0 differ")
    )
    share = 1 / found["times_cheaper"]
    figure = (
        f"{share:.3f} [{1 / found['high']:.3f}, {1 / found['low']:.3f}]: {found['sample_ms']:.3f} ms of "
        f"{found['window_ms']:.2f} ms ({found['tokens']} tokens, one thread, {found['engine']})"
    )
    lines.append(
        line(
            f"  a new sample's share of the full window at {STEPS:,} steps",
            share <= MOST_OF_WINDOW,
            figure,
            f"<= {MOST_OF_WINDOW}",
        )
    )
    figure = f"p99 {found['sample_p99_ms']:.2f} ms, longest {found['sample_max_ms']:.2f} ms"
    lines.append(line("  a sample that closes a token or a block included", None, figure, ""))
    return lines


def main() -> int:
    """Only the claims about streams."""
    WORK.mkdir(parents=True, exist_ok=True)
    machine = machine_now()
    print(json.dumps(machine), flush=True)
    lines = compare_stream(StoredCases(WORK / "cases", version_of("stream"), machine_facts(), QUICK))
    return finish(SCRATCH / "prove_serve_stream.json", lines, machine)


if __name__ == "__main__":
    sys.exit(main())
