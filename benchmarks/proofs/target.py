"""`make prove-target`: the claims about int8 and about speed and memory where the model runs, a line each.

PASS or FAIL, name, figure, target; exits 1 when one fails. INFO lines have no target. Figures of the same
sources on the same machine are stored and taken up again; `QUICK=1` measures shorter, on one thread, and
trains one set for a few passes. A speed-up of outputs that are not right counts as 0.

`CLAIMS` may be extended: each entry takes the store and returns its lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attention.kernel_programs import hash_sources
from benchmarks.proofs.target_tools import CLAIMS as TOOL_CLAIMS
from benchmarks.support.import_closure import version_behind
from benchmarks.support.machine import describe_machine
from benchmarks.support.stored_cases import StoredCases
from benchmarks.target.decisions import make_bundle, measure_golden, measure_set
from benchmarks.target.memory import TOKENS as LONGEST
from benchmarks.target.memory import measure_memory
from benchmarks.target.speed import measure_encoder, measure_whole

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "bench-results" / "target"
QUICK = os.environ.get("QUICK") == "1"
SECONDS = 4.0 if QUICK else 15.0
THREADS = (1,) if QUICK else (1, 2)
EVERY_SET = ("ACSF1", "OSULeaf", "FreezerSmallTrain", "Computers", "CinCECGTorso", "PLAID", "FordA")
SETS = EVERY_SET[:1] if QUICK else EVERY_SET
SETTINGS = ["training.epochs=10"] if QUICK else []
# tokens -> rival -> least ratio.
TARGETS = {
    256: {"dense float32": 1.0, "dense int8": 1.0},
    2048: {"dense float32": 3.0, "dense int8": 2.0},
    4096: {"dense float32": 4.0, "dense int8": 2.0},
}
OPENVINO = {256: 1.0, 2048: 1.8}
MOST_MEMORY, MOST_FLIPPED = 0.30, 0.01

Line = dict[str, Any]
Claim = Callable[[StoredCases], list[Line]]


def line(name: str, figure: float, target: str, passed: bool | None, note: str = "") -> Line:
    """Print one claim, or one figure without a target, and return it."""
    verdict = "INFO" if passed is None else "PASS" if passed else "FAIL"
    aim = f"  (target {target})" if target else ""
    print(f"{verdict}  {name}: {figure:.3g}{f' {note}' if note else ''}{aim}", flush=True)
    return {"name": name, "figure": figure, "target": target, "passed": passed, "note": note}


def ratio_line(found: dict[str, Any], rival: str, case: str, least: float | None) -> Line:
    """How many times faster than `rival`; 0 where one of the two is not right."""
    ratio, right = found["over"][rival], found["right"]["int8 sparse"] and found["right"][rival]
    value = ratio["value"] if right else 0.0
    ours, theirs = ratio["ours_ms"], ratio["rival_ms"]
    note = f"[{ratio['low']:.2f}, {ratio['high']:.2f}], {ours:.2f} ms against {theirs:.2f}"
    target = "" if least is None else f">= {least:g}"
    passed = None if least is None else value >= least
    return line(
        f"int8 sparse over {rival}, {case}", value, target, passed, note if right else "outputs differ"
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
                    line(f"int8 sparse over OpenVINO dense, {case}", 0.0, f">= {least:g}", False, note)
                )
                continue
            named = f"{case}, {found['openvino_precision']}"
            lines.append(ratio_line(found, "OpenVINO dense", named, least))
            lines.append(ratio_line(found, "OpenVINO dense, float32", case, None))
    return lines


def memory(store: StoredCases) -> list[Line]:
    """Peak memory of a run."""
    found = store.get("memory", measure_memory)
    share = found["sparse"] / found["dense"]
    note = f"({found['sparse']:.0f} of {found['dense']:.0f} MB)"
    name = f"peak memory of the run over dense float32's, {LONGEST} tokens"
    return [line(name, share, f"<= {MOST_MEMORY:g}", share <= MOST_MEMORY, note)]


def decisions(store: StoredCases) -> list[Line]:
    """int8 against float32 on test data, and every instruction set on golden vectors."""
    lines, flipped, series = [], 0, 0
    folder = STORE / f"bundles-{'quick' if QUICK else 'full'}-{code_version()}"
    folder.mkdir(parents=True, exist_ok=True)
    trained = []
    for name in SETS:
        found = store.get(f"decisions-{name}", partial(measure_set, name, folder, SETTINGS))
        if "missing" in found:
            lines.append(line(f"decisions on {name}", 0, "", None, f"skipped: {found['missing']}"))
            continue
        trained.append(name)
        flipped, series = flipped + found["flipped"], series + found["n"]
        note = f"of {found['n']}; accuracy {found['float32']:.3f} -> {found['int8']:.3f}"
        lines.append(line(f"decisions that int8 changes, {name}", found["flipped"], "", None, note))
    share = flipped / series if series else 1.0
    note = f"({flipped} of {series})"
    lines.append(
        line("decisions that int8 changes", share, f"<= {MOST_FLIPPED:g}", share <= MOST_FLIPPED, note)
    )
    for name in trained:
        bundle = make_bundle(name, folder, SETTINGS)
        found = store.get(f"golden-{name}", partial(measure_golden, bundle))
        same = all(found["same"].values()) and len(found["isas"]) > 1
        difference = max(found["largest_difference"].values())
        note = f"instruction sets ({', '.join(found['isas'])}), largest score difference {difference:.1e}"
        lines.append(
            line(f"golden vectors decide alike, {name}", len(found["isas"]), "all alike", same, note)
        )
    return lines


CLAIMS: list[Claim] = [speed, openvino, memory, decisions, *TOOL_CLAIMS]


def code_version() -> str:
    """Changes with the kernels, and with every Python file that this module may run."""
    return f"{hash_sources()}-{version_behind('benchmarks/proofs/target.py')}"


def main() -> int:
    """Measures, judges, writes prove_target.json: to benchmarks/results, or to bench-results if shortened."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    machine = {**describe_machine(), "load_average": os.getloadavg()}
    facts = {x: machine[x] for x in ("cpu", "cores", "system", "python", "versions")}
    store = StoredCases(STORE, code_version(), facts, QUICK)
    print(json.dumps(machine))
    lines = [entry for claim in CLAIMS for entry in claim(store)]
    report = {"machine": machine, "quick": QUICK, "lines": lines}
    target = ROOT / ("bench-results" if QUICK else "benchmarks/results") / "prove_target.json"
    target.write_text(json.dumps(report, indent=2) + "\n")
    print(f"as JSON: {target.relative_to(ROOT)}")
    return 0 if all(entry["passed"] is not False for entry in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
