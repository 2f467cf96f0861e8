"""`make prove-target`: the claims about int8 and about speed and memory where the model runs, a line each.

PASS or FAIL, name, figure, target; exits 1 when one fails. INFO lines have no target. Figures of the same
sources on the same machine are stored and taken up again; `QUICK=1` measures shorter, on one thread, and
trains one set for a few passes. A speed-up of outputs that are not right counts as 0.

`CLAIMS` may be extended: each entry takes the store and returns its lines.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.proofs.lines import Line, finish, line, machine_now, skip
from benchmarks.proofs.target_settings import SETTINGS, bundles_folder, open_store
from benchmarks.proofs.target_tools import CLAIMS as TOOL_CLAIMS
from benchmarks.support.settings import QUICK, report_path
from benchmarks.support.stored_cases import StoredCases
from benchmarks.target.choice import BODY, PLAIN, measure_pinned
from benchmarks.target.decisions import make_bundle, measure_golden, measure_set
from benchmarks.target.memory import TOKENS as LONGEST
from benchmarks.target.memory import measure_memory
from benchmarks.target.speed import measure_encoder, measure_whole
from benchmarks.target.step import STEPS, measure_step
from tests.support.kernels.isas import expected_isas

SECONDS = 4.0 if QUICK else 15.0
THREADS = (1,) if QUICK else (1, 2)
EVERY_SET = ("ACSF1", "OSULeaf", "FreezerSmallTrain", "Computers", "CinCECGTorso", "PLAID", "FordA")
SETS = EVERY_SET[:1] if QUICK else EVERY_SET
# tokens -> rival -> least ratio.
TARGETS = {
    256: {"dense float32": 1.0, "dense int8": 1.0},
    2048: {"dense float32": 3.0, "dense int8": 2.0},
    4096: {"dense float32": 4.0, "dense int8": 2.0},
}
OPENVINO = {256: 1.0, 2048: 1.8}
# Most that `auto` may take, of the time of another choice and of plain onnxruntime's dense model.
WITHIN = {"fastest": 1.05, "dense": 1.02}
MOST_MEMORY, MOST_FLIPPED = 0.30, 0.01
MOST_A_STEP, MOST_OF_A_MILLION = 0.05, 0.5

Claim = Callable[[StoredCases], list[Line]]


def ratio_line(found: dict[str, Any], rival: str, case: str, least: float | None) -> Line:
    """How many times faster than `rival`; 0 where one of the two is not right."""
    ratio, right = found["over"][rival], found["right"]["int8 sparse"] and found["right"][rival]
    value = ratio["value"] if right else 0.0
    ours, theirs = ratio["ours_ms"], ratio["rival_ms"]
    note = f"[{ratio['low']:.2f}, {ratio['high']:.2f}], {ours:.2f} ms against {theirs:.2f}"
    target = "" if least is None else f">= {least:g}"
    passed = None if least is None else value >= least
    return line(
        f"int8 sparse over {rival}, {case}", passed, value, target, note if right else "outputs differ"
    )


def speed(store: StoredCases) -> list[Line]:
    """Whole models at each length and thread count."""
    lines = []
    for tokens, targets in TARGETS.items():
        for threads in THREADS:
            case = f"{tokens} tokens, {threads} thread{'s' if threads > 1 else ''}"
            found = store.get(f"whole-{tokens}-{threads}", partial(measure_whole, tokens, threads, SECONDS))
            lines += [ratio_line(found, rival, case, targets.get(rival)) for rival in found["over"]]
    return lines


def openvino(store: StoredCases) -> list[Line]:
    """Encoders without the stem, which OpenVINO cannot run."""
    lines = []
    for tokens, least in OPENVINO.items():
        for threads in THREADS:
            case = f"encoder, {tokens} tokens, {threads} thread{'s' if threads > 1 else ''}"
            try:
                found = store.get(
                    f"encoder-{tokens}-{threads}", partial(measure_encoder, tokens, threads, SECONDS)
                )
            except ModuleNotFoundError:
                note = "not installed: pip install --no-deps 'openvino==2026.4.*'"
                lines.append(
                    line(f"int8 sparse over OpenVINO dense, {case}", False, 0.0, f">= {least:g}", note)
                )
                continue
            named = f"{case}, {found['openvino_precision']}"
            lines.append(ratio_line(found, "OpenVINO dense", named, least))
            lines.append(ratio_line(found, "OpenVINO dense, float32", case, None))
    return lines


def choice(store: StoredCases) -> list[Line]:
    """`auto` without a measurement, each instruction set of this machine pinned, and the function body.

    The scalar table is left out: it runs only where it is pinned, and is then what was asked for.
    """
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for isa in (*sorted(expected_isas() - {"scalar", "amx_emulated"}), BODY):
            found = store.get(f"choice-{isa}", partial(measure_pinned, isa, Path(folder)))
            if (found["isa"] or BODY) != isa:
                note = f"not loaded: {found['engine']}"
                lines.append(line(f"auto, {isa}", False, 0.0, "a table of this machine", note))
                continue
            rivals = {
                length: {k: v for k, v in over.items() if k != PLAIN}
                for length, over in found["over"].items()
            }
            fastest = {
                length: min(over.items(), key=lambda item: item[1]["value"])
                for length, over in rivals.items()
            }
            dense = {length: (PLAIN, over[PLAIN]) for length, over in found["over"].items()}
            lines += [
                worst_line(
                    f"auto over the fastest precision and engine, {isa}", found, fastest, WITHIN["fastest"]
                ),
                worst_line(f"auto over plain onnxruntime's dense, {isa}", found, dense, WITHIN["dense"]),
            ]
    return lines


def worst_line(
    name: str, found: dict[str, Any], rivals: dict[str, tuple[str, dict[str, float]]], most: float
) -> Line:
    """Time of `auto` over that of a rival per length: the worst, and all."""
    times = {length: 1 / ratio["value"] for length, (_, ratio) in rivals.items()}
    length = max(times, key=lambda n: times[n])
    rival, ratio = rivals[length]
    right = found["right"][found["auto"]]
    note = (
        f"[{1 / ratio['high']:.2f}, {1 / ratio['low']:.2f}] at {length} tokens: {found['auto']} "
        f"{ratio['ours_ms']:.2f} ms, {rival} {ratio['rival_ms']:.2f}; by tokens "
        + ", ".join(f"{n}: {t:.2f}" for n, t in times.items())
    )
    holds = right and times[length] <= most
    return line(name, holds, times[length], f"<= {most:g}", note if right else "outputs differ")


def memory(store: StoredCases) -> list[Line]:
    """Peak memory of a run."""
    found = store.get("memory", measure_memory)
    share = found["sparse"] / found["dense"]
    note = f"({found['sparse']:.0f} of {found['dense']:.0f} MB)"
    name = f"peak memory of the run over dense float32's, {LONGEST} tokens"
    return [line(name, share <= MOST_MEMORY, share, f"<= {MOST_MEMORY:g}", note)]


def decisions(store: StoredCases) -> list[Line]:
    """int8 against float32 on test data, and every instruction set on golden vectors."""
    lines, flipped, series = [], 0, 0
    folder = bundles_folder()
    trained = []
    for name in SETS:
        found = store.get(f"decisions-{name}", partial(measure_set, name, folder, SETTINGS))
        if "missing" in found:
            lines.append(skip(f"decisions on {name}", found["missing"]))
            continue
        trained.append(name)
        flipped, series = flipped + found["flipped"], series + found["n"]
        note = f"of {found['n']}; accuracy {found['float32']:.3f} -> {found['int8']:.3f}"
        lines.append(line(f"decisions that int8 changes, {name}", None, found["flipped"], note=note))
    share = flipped / series if series else 1.0
    note = f"({flipped} of {series})"
    lines.append(
        line("decisions that int8 changes", share <= MOST_FLIPPED, share, f"<= {MOST_FLIPPED:g}", note)
    )
    for name in trained:
        bundle = make_bundle(name, folder, SETTINGS)
        found = store.get(f"golden-{name}", partial(measure_golden, bundle))
        same = all(found["same"].values()) and len(found["isas"]) > 1
        difference = max(found["largest_difference"].values())
        note = f"instruction sets ({', '.join(found['isas'])}), largest score difference {difference:.1e}"
        lines.append(
            line(f"golden vectors decide alike, {name}", same, len(found["isas"]), "all alike", note)
        )
    return lines


def streaming(store: StoredCases) -> list[Line]:
    """One new sample of a causal model with its score."""
    found = store.get("step", measure_step)
    wall, own, case = found["wall"], found["processor"], f"{STEPS} steps, {found['engine']}"
    note = (
        f"p50 {wall['p50_ms']:.3f}, p99 {wall['p99_ms']:.3f}; processor time {own['mean_ms']:.3f}, "
        f"p50 {own['p50_ms']:.3f}, p99 {own['p99_ms']:.3f}"
    )
    mean, worst = wall["mean_ms"], wall["worst_ms"]
    return [
        line(f"a sample with its score, ms, {case}", mean <= MOST_A_STEP, mean, f"<= {MOST_A_STEP}", note),
        line(
            f"the worst of {found['samples']:,} samples, ms",
            worst < MOST_OF_A_MILLION,
            worst,
            f"< {MOST_OF_A_MILLION}",
            f"{wall['over_half_a_ms']} took longer",
        ),
        line(
            f"the worst of {found['samples']:,} samples, ms of processor time",
            None,
            own["worst_ms"],
            "",
            f"{own['over_half_a_ms']} took longer than {MOST_OF_A_MILLION}",
        ),
    ]


CLAIMS: list[Claim] = [speed, choice, streaming, openvino, memory, decisions, *TOOL_CLAIMS]


def main() -> int:
    """Measures, compares with the targets, writes prove_target.json."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    machine, store = machine_now(), open_store()
    print(json.dumps(machine))
    lines = [entry for claim in CLAIMS for entry in claim(store)]
    return finish(report_path("prove_target"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
