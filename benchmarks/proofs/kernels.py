"""`make prove-kernels`: the kernels' claims, a line each: PASS or FAIL, name, figure, target.

Exits 1 when one fails. INFO lines carry figures without a target. Figures of the same sources are stored and
taken up again; `QUICK=1` measures each case for a shorter time. A speed-up of outputs that are not right
counts as 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attention.case import FLOAT32_ERROR, INT8_ERROR, Case, Contender
from benchmarks.attention.counted_cycles import PROCESSORS, measure_speed_up, missing_tools
from benchmarks.attention.kernel_programs import hash_sources, measure_peak, profile_phases, run_program
from benchmarks.attention.measure import PAUSE_SECONDS, measure, time_contenders
from benchmarks.attention.ours import make_native
from benchmarks.attention.parts import make_balance, make_router
from benchmarks.proofs.lines import Line, finish, line, machine_now, skip
from benchmarks.support.interleaved import find_ratio
from benchmarks.support.machine import machine_facts
from benchmarks.support.settings import QUICK, SCRATCH
from benchmarks.support.stored_cases import StoredCases
from edgesparse_runtime.engine import FASTER_IN_INT8, LIBRARY_NAME
from tests.support.kernels.build import build_kernels

SECONDS = 4.0 if QUICK else 30.0
LONG = Case(4096, 8, 64, 0.125)
NARROW = Case(4096, 4, 32, 0.125)
SHORTER = Case(2048, 8, 64, 0.125)
FULL = Case(2048, 8, 64, 1.0)
QUARTER = Case(1024, 4, 32, 0.25)
SHORT = (Case(256, 4, 32, 0.25), Case(256, 8, 64, 0.25))
CASES = (LONG, NARROW, SHORTER, FULL, QUARTER, *SHORT)
TWO_THREADS = (Case(4096, 8, 64, 0.125, 2), Case(1024, 4, 32, 0.25, 2))
# name, case, figure, least
CLAIMS = [
    ("float32 over fused dense", LONG, "float32_over_dense", 6.5),
    ("float32 over fused dense", NARROW, "float32_over_dense", 6.5),
    ("float32 over fused dense", QUARTER, "float32_over_dense", 3.2),
    ("float32 over fused dense, all blocks", FULL, "float32_over_dense", 0.9),
    ("int8 over float32", SHORTER, "int8_over_float32", 1.8),
    ("int8 over float32", LONG, "int8_over_float32", 1.8),
    ("int8 over fused dense", LONG, "int8_over_dense", 10.0),
    ("break-even with fused dense", SHORT[0], "float32_over_dense", 1.0),
    ("break-even with fused dense", SHORT[1], "float32_over_dense", 1.0),
]
# Cycles of the scalar table over those of NEON without the dot product, by precision.
NEON = {"int8": 8.0, "float32": 4.0}
MEMORY = """
import sys
import numpy as np
from dataclasses import asdict
from tests.support.kernels.models import *
from tests.support.kernels.reference import Attributes
feeds = make_feeds(Shape(8192, 8192, 8, 8, 64, 64), 64, top_p=1.0, max_blocks=16)
node = Attributes(num_heads=8, kv_num_heads=8, block_size=64, scale=0.125, precision=sys.argv[2])
session = open_session(sys.argv[1], make_model(asdict(node), with_selection=False))
small = make_feeds(Shape(64, 64, 8, 8, 64, 64), 64)
session.run(None, small)
def peak(name):
    return next(int(x.split()[1]) * 1024 for x in open("/proc/self/status") if x.startswith(name))
open("/proc/self/clear_refs", "w").write("5")  # forget the peak of making the inputs
before = peak("VmRSS")
(output,) = session.run(None, feeds)
extra = peak("VmHWM") - before - output.nbytes
print(extra / sum(x.nbytes for x in feeds.values()))
"""


def speed_up(found: dict[str, Any], figure: str) -> float:
    """The ratio of medians, 0 where an output was not right."""
    if figure == "float32_over_dense":
        kept = found["rivals"]["fused dense"].get("speed_up")
    else:
        kept = found[figure]
    return float(kept["value"]) if kept else 0.0


def measure_memory(library: str) -> dict[str, float]:
    """Peak memory of a run beyond inputs and output, over the size of the inputs, by precision."""
    programs = {x: [sys.executable, "-c", MEMORY, library, x] for x in ("float32", "int8")}
    return {precision: float(run_program(command)) for precision, command in programs.items()}


def measure_router(library: str) -> dict[str, float]:
    """The exported router interleaved with the kernel: its share of the kernel's time."""
    kernel, _ = make_native(LONG, library)
    router = make_router(LONG, library)
    times = time_contenders((router, kernel), seconds=SECONDS / 2, least=6, pause=0.0)
    return {"share": find_ratio(times[:, 1], times[:, 0]).value}


def measure_balance(library: str) -> dict[str, float]:
    """One thread's time over that of two, for two heads alike and for a full and a nearly empty one."""
    found = {}
    for name, top_p in (("alike", (1.0, 1.0)), ("unlike", (1.0, 0.0))):
        contenders: list[Contender] = [make_balance(library, top_p, threads) for threads in (1, 2)]
        times = time_contenders(contenders, seconds=SECONDS / 2, least=6, pause=PAUSE_SECONDS)
        found[name] = find_ratio(times[:, 1], times[:, 0]).value
    return found


def count_neon(store: StoredCases) -> list[Line]:
    """Cycles of the scalar table over NEON's, estimated: no board is timed."""
    lines = []
    missing = missing_tools()
    for processor in PROCESSORS[-1:] if QUICK else PROCESSORS:
        for precision, least in NEON.items():
            name = f"NEON without dot product over scalar, {precision}, {processor}, counted cycles"
            if missing:
                lines.append(
                    skip(name, f"not installed: apt-get install {' '.join(missing)}", f">= {least:g}")
                )
                continue
            case = f"neon-{processor}-{precision}"
            found = store.get(case, partial(measure_speed_up, "neon", precision, processor))
            note = f"{found['instructions']:.1f}x in instructions; emulated, no board was timed"
            lines.append(line(name, found["cycles"] >= least, found["cycles"], f">= {least:g}", note))
    return lines


def claim_line(name: str, case: Case, value: float, least: float, isa: str) -> Line:
    """A speed-up with its target; int8's has one where int8 is what the runner chooses."""
    is_judged = not name.startswith("int8") or isa in FASTER_IN_INT8
    note = "" if is_judged else f"{isa} gains nothing from int8: `auto` computes in float32 there"
    passed = value >= least if is_judged else None
    return line(f"{name}, {case.name}", passed, value, f">= {least}" if is_judged else "", note)


def compare(store: StoredCases, build: Path, isa: str) -> list[Line]:
    """Measures what is not stored yet; prints and returns a line each."""
    library = str(build / LIBRARY_NAME)
    found = {c: store.get(c.name, partial(measure, c, library, seconds=SECONDS)) for c in CASES + TWO_THREADS}
    lines = []
    for name, case, figure, least in CLAIMS:
        lines.append(claim_line(name, case, speed_up(found[case], figure), least, isa))
    phases = store.get("phases", partial(profile_phases, build, LONG, "float32", 20))
    router = store.get("router", partial(measure_router, library))
    inside = phases["selection_share"] + phases["summaries_share"]
    share = inside + router["share"]
    name = f"router, selection and summaries over the operator's time, {LONG.name}"
    lines.append(line(name, share <= 0.12, share, "<= 0.12"))
    lines.append(line("  of these selection and summaries", None, inside))
    for precision, extra in store.get("memory", partial(measure_memory, library)).items():
        name = f"extra memory over inputs, {precision}, N8192 H8 D64"
        lines.append(line(name, extra < 3, extra, "< 3"))
    for precision, most in (("float32", FLOAT32_ERROR), ("int8", INT8_ERROR)):
        worst = float(np.max([x["ours"][precision]["error"] for x in found.values()]))
        lines.append(line(f"{precision} error against float64", worst <= most, worst, f"<= {most:g}"))
    for case in TWO_THREADS:
        for figure in ("float32_over_dense", "int8_over_dense"):
            lines.append(line(f"{figure}, {case.name}", None, speed_up(found[case], figure)))
    balance = store.get("balance", partial(measure_balance, library))
    for name, value in balance.items():
        lines.append(line(f"two threads over one, two heads {name}", None, value))
    return lines + count_neon(store)


def main() -> int:
    """Measures, compares with the targets, writes bench-results/prove_kernels.json."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    build = build_kernels()
    machine = machine_now()
    peak = measure_peak(build, 1)
    store = StoredCases(SCRATCH / "kernels", hash_sources(), machine_facts(), peak["isa"], QUICK)
    print(json.dumps({**machine, "isa": peak["isa"]}))
    return finish(SCRATCH / "prove_kernels.json", compare(store, build, str(peak["isa"])), machine, peak=peak)


if __name__ == "__main__":
    sys.exit(main())
