"""The kernels' claims, one line each: PASS or FAIL, name, figure, target. Exits 1 when one fails.

Figures of the same sources are stored and taken up again; `QUICK=1` measures each case for a shorter time.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict

from benchmarks.attention import Figure, describe_machine, measure
from tests.kernels.conftest import ROOT, build_kernels

RESULTS = ROOT / "bench-results"
CASES = {
    "N4096_H8_D64_12.5%": (4096, 8, 64, 0.125),
    "N4096_H4_D32_12.5%": (4096, 4, 32, 0.125),
    "N1024_H4_D32_25%": (1024, 4, 32, 0.25),
    "N2048_H8_D64_12.5%": (2048, 8, 64, 0.125),
    "N2048_H8_D64_100%": (2048, 8, 64, 1.0),
    "N256_H4_D32_25%": (256, 4, 32, 0.25),
    "N256_H8_D64_25%": (256, 8, 64, 0.25),
}
# name, case, figure, least
CLAIMS = [
    ("float32 over fused dense", "N4096_H8_D64_12.5%", "float32_ratio", 6.5),
    ("float32 over fused dense", "N4096_H4_D32_12.5%", "float32_ratio", 6.5),
    ("float32 over fused dense", "N1024_H4_D32_25%", "float32_ratio", 3.2),
    ("float32 at full density", "N2048_H8_D64_100%", "float32_ratio", 0.9),
    ("int8 over float32", "N2048_H8_D64_12.5%", "int8_over_float32", 1.8),
    ("int8 over float32", "N4096_H8_D64_12.5%", "int8_over_float32", 1.8),
    ("int8 over fused dense", "N4096_H8_D64_12.5%", "int8_ratio", 10.0),
    ("break-even", "N256_H4_D32_25%", "float32_ratio", 1.0),
    ("break-even", "N256_H8_D64_25%", "float32_ratio", 1.0),
]
MEMORY = """
import sys
import numpy as np
from dataclasses import asdict
from tests.kernels.models import *
from tests.kernels.reference import Attributes
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


def hash_sources() -> str:
    """Changes with every line of the kernels."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "runtime" / "kernels").rglob("*")):
        if path.suffix in (".cc", ".h", ".txt", ".map"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def child(command: list[str]) -> str:
    """The output of a program that finds our packages."""
    path = os.pathsep.join(str(ROOT / part) for part in (".", "export", "runtime"))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    ).stdout


def main() -> int:
    """Measures what is not stored yet, then judges."""
    quick = os.environ.get("QUICK") == "1"
    build = build_kernels()
    library = str(build / "edgesparse_kernels.so")
    RESULTS.mkdir(exist_ok=True)
    machine = describe_machine(library)
    key = hashlib.sha256(json.dumps([hash_sources(), quick, machine]).encode()).hexdigest()[:16]
    store = RESULTS / f"kernels-{key}.json"
    stored: dict[str, dict[str, float]] = json.loads(store.read_text()) if store.exists() else {}
    print(json.dumps(machine))
    for name, case in CASES.items():
        if name not in stored:
            stored[name] = asdict(measure(library, *case, seconds=4.0 if quick else 20.0))
            store.write_text(json.dumps(stored, indent=1))
    for precision in ("float32", "int8"):
        if f"memory_{precision}" not in stored:
            extra = float(child([sys.executable, "-c", MEMORY, library, precision]))
            stored[f"memory_{precision}"] = {"extra": extra}
    if "phases" not in stored:
        command = [str(build / "profile_kernels"), "4096", "8", "64", "64", "8", "float32", "20"]
        stored["phases"] = json.loads(child(command))
    store.write_text(json.dumps(stored, indent=1))

    lines = [
        (f"{name}, {case}", stored[case][figure], f">= {least}", stored[case][figure] >= least)
        for name, case, figure, least in CLAIMS
    ]
    phases = stored["phases"]
    share = (phases["selection"] + phases["summaries"]) / phases["seconds"]
    lines.append(("selection and summaries, share of the operator", share, "<= 0.12", share <= 0.12))
    for precision in ("float32", "int8"):
        extra = stored[f"memory_{precision}"]["extra"]
        lines.append((f"extra memory over inputs, {precision}, N8192 H8 D64", extra, "< 3", extra < 3))
    figures = [Figure(**stored[name]) for name in CASES]  # type: ignore[arg-type]
    worst = max(f.float32_error for f in figures)
    lines.append(("float32 error against float64", worst, "<= 1e-5", worst <= 1e-5))
    worst = max(f.int8_error for f in figures)
    lines.append(("int8 error against float64", worst, "<= 0.02", worst <= 0.02))
    report = []
    for name, figure, target, passed in lines:
        print(f"{'PASS' if passed else 'FAIL'}  {name}: {figure:.3g} (target {target})")
        report.append({"name": name, "figure": figure, "target": target, "passed": bool(passed)})
    (RESULTS / "prove-kernels.json").write_text(
        json.dumps({"machine": machine, "lines": report}, indent=1) + "\n"
    )
    return 0 if all(line["passed"] for line in report) else 1


if __name__ == "__main__":
    sys.exit(main())
