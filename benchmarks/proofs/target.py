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
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.proofs.lines import Line, finish, line, machine_now, skip
from benchmarks.proofs.target_settings import SETTINGS, bundles_folder, open_store
from benchmarks.proofs.target_tools import CLAIMS as TOOL_CLAIMS
from benchmarks.support.settings import QUICK, report_path
from benchmarks.support.stored_cases import StoredCases
from benchmarks.target.decisions import make_bundle, measure_golden, measure_set
from benchmarks.target.memory import TOKENS as LONGEST
from benchmarks.target.memory import measure_memory
from benchmarks.target.speed import measure_encoder, measure_whole

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
MOST_MEMORY, MOST_FLIPPED = 0.30, 0.01

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


CLAIMS: list[Claim] = [speed, openvino, memory, decisions, *TOOL_CLAIMS]


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
