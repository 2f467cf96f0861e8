"""Sparse attention against every rival, interleaved in one process at equal threads.

`python -m benchmarks.attention.main --threads 1 2` prints a table and writes attention.json and a picture for
each thread count. Rivals: `benchmarks/attention/rivals.py`, and our own function body. No speed-up is printed
for a case whose outputs do not agree with a float64 check. Cases are stored as they are measured: the same
command goes on where it was stopped. Pin the process (`taskset -c 0`) where other work runs.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attention.case import Case
from benchmarks.attention.kernel_programs import hash_sources, measure_peak
from benchmarks.attention.measure import measure_all
from benchmarks.attention.plot import plot
from benchmarks.support.machine import describe_machine
from benchmarks.support.stored_cases import StoredCases
from edgesparse_runtime.machine.progress import progress
from tests.support.kernels.build import build_kernels

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
HEADS = ((4, 32), (8, 64), (12, 32), (6, 64))
DENSITIES = (0.0625, 0.125, 0.25, 0.5, 1.0)


def describe_rival(name: str, rival: dict[str, Any]) -> str:
    """One column of the table."""
    if "not_available" in rival:
        return f"{name} not available: {rival['not_available']}"
    figures = f"{rival['ms']:.2f} ms, {rival['gflops']:.0f} GFLOP/s"
    if "speed_up" not in rival:
        return f"{name} {figures}, parity is not met (error {rival['error']:.1e}): no speed-up"
    s = rival["speed_up"]
    return f"{name} {figures}: x{s['value']:.2f} [{s['low']:.2f}, {s['high']:.2f}]"


def describe_ours(name: str, figures: dict[str, Any], peak: float | None) -> str:
    """Time and rate beside the peak of the unit that computes it."""
    share = (
        f" = {figures['gflops'] / peak:.0%} of the peak of {peak:.0f}" if peak else ", peak not measurable"
    )
    return (
        f"{name} {figures['ms']:.2f} ms, {figures['gflops']:.0f} GFLOP/s{share}, error {figures['error']:.1e}"
    )


def describe(result: dict[str, Any], peak: dict[str, Any]) -> str:
    """The lines of one case."""
    case = Case(**{k: v for k, v in result["case"].items() if k != "kept"})
    ours = result["ours"]
    lines = [
        case.name,
        "  " + describe_ours("float32", ours["float32"], peak["fma_gflops"]),
        "  " + describe_ours("int8", ours["int8"], peak["dot_gops"]),
    ]
    if result["int8_over_dense"]:
        lines[-1] += (
            f", x{result['int8_over_dense']['value']:.2f} over fused dense, "
            f"x{result['int8_over_float32']['value']:.2f} over float32"
        )
    for precision, phases in result.get("phases", {}).items():
        shares = [f"{x} {phases[f'{x}_share']:.1%}" for x in ("selection", "packing", "summaries", "softmax")]
        lines.append(f"  {precision} time: " + ", ".join(shares))
    return "\n".join(lines + ["  over " + describe_rival(*item) for item in result["rivals"].items()])


def read_heads(text: str) -> tuple[int, int]:
    """`8x64` as (8, 64)."""
    heads, size = text.split("x")
    return int(heads), int(size)


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-results"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for ours and dense; rivals a quarter each"
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="multiples of 64")
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    parser.add_argument("--heads", type=read_heads, nargs="+", default=HEADS, help="as in 8x64")
    options = parser.parse_args()
    if any(n < 64 or n % 64 for n in options.lengths):
        parser.error("`--lengths` must be multiples of 64: the exact check counts whole blocks")
    build = build_kernels()
    # A figure that was measured beside other work says so.
    machine = {**describe_machine(), "load_average": os.getloadavg()}
    peaks = {threads: measure_peak(build, threads) for threads in options.threads}
    print(json.dumps({"machine": machine, "peaks": list(peaks.values())}))
    facts = {x: machine[x] for x in ("cpu", "cores", "system", "python", "versions")}
    isa = peaks[options.threads[0]]["isa"]
    store = StoredCases(options.output / "attention", hash_sources(), facts, isa, options.seconds)
    # A shape's densities follow each other: they share one compilation of flex_attention.
    cases = [
        Case(tokens, heads, size, density, threads)
        for threads in options.threads
        for heads, size in options.heads
        for tokens in options.lengths
        for density in options.densities
    ]
    results = []
    done = sum(case.name in store for case in cases)
    with progress("attention", len(cases), start=done) as bar:
        for case in cases:
            stored = case.name in store
            result = store.get(case.name, partial(measure_all, case, build, seconds=options.seconds))
            results.append(result)
            print(describe(result, peaks[case.threads]), flush=True)
            if not stored:
                bar.advance(note=case.name)
    report = {"machine": machine, "peaks": list(peaks.values()), "results": results}
    (options.output / "attention.json").write_text(json.dumps(report, indent=1) + "\n")
    for threads in options.threads:
        where = f"{machine['cpu']}, {isa}, threads: {threads}"
        title = f"Sparse attention in float32 over onnxruntime's fused dense attention\n{where}"
        plot(results, threads, title, options.output / f"attention_{threads}_threads.png")


if __name__ == "__main__":
    main()
