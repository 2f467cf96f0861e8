"""`make prove-main`: the claims of the main job, a line each: PASS or FAIL, name, figure, target.

Works on a fresh clone of the committed state. Long parts (the demo, the test suite) resume from results
stored for the same commit in bench-results/. QUICK=1 leaves out the test suite and trains the demo's models
for a quarter of the epochs, without comparing their accuracy.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.proofs.checkout import command, commit_version
from benchmarks.proofs.lines import Line, finish, line, machine_now, skip
from benchmarks.support.settings import QUICK, SCRATCH
from tests.support.paths import ROOT

RESULTS = SCRATCH / "prove_main.json"
DEMO_SECONDS, TEST_SECONDS = 240.0, 900.0
LEAST_ACCURACY, MOST_BEHIND, BUDGET = 0.85, 0.02, 0.30


def stored(store: dict[str, Any], key: str, measure: Callable[[], Any]) -> Any:
    """The stored result of this code version, or a new one."""
    if key not in store:
        store[key] = measure()
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(store, indent=2) + "\n")
    return store[key]


def demo(clone: Path) -> dict[str, Any]:
    """`make demo` in the clone, packages downloaded beforehand by this environment's own installation."""
    start = time.monotonic()
    if QUICK:
        result = command(["make", ".venv/.demo"], clone)
        if result.returncode == 0:
            verb = [".venv/bin/edgesparse", "quickstart", "-o", "demo", "--epochs", "10"]
            result = command(verb, clone)
    else:
        result = command(["make", "demo"], clone)
    seconds = time.monotonic() - start
    mark = clone / "demo" / "quickstart.json"
    tail = result.stderr[-2000:] if result.returncode else ""
    table = json.loads(mark.read_text()) if mark.exists() else None
    return {"rc": result.returncode, "seconds": seconds, "result": table, "tail": tail}


def tests(clone: Path) -> dict[str, Any]:
    """`make test` in the clone."""
    start = time.monotonic()
    result = command(["make", "test"], clone)
    summary = re.findall(r"^.*\b(?:passed|failed|error)\b.*$", result.stdout, flags=re.MULTILINE)
    return {
        "rc": result.returncode,
        "seconds": time.monotonic() - start,
        "summary": summary[-1].strip("= ") if summary else "no summary",
    }


PLAIN = """
import json, sys, time
import numpy, onnxruntime
assert "edgesparse_runtime" not in sys.modules
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
paths = json.loads(sys.argv[1])
sessions = {name: onnxruntime.InferenceSession(path, options) for name, path in paths.items()}
window = numpy.random.default_rng(0).standard_normal((1, 1, int(sys.argv[2]))).cumsum(-1)
window = window.astype("float32")
times = {name: [] for name in sessions}
for name, session in sessions.items():
    scores = session.run(["scores"], {"window": window})[0]
    assert numpy.isfinite(scores).all() and abs(float(scores.sum()) - 1) < 1e-4
for _ in range(40):
    for name, session in sessions.items():
        start = time.perf_counter()
        session.run(["scores"], {"window": window})
        times[name].append(time.perf_counter() - start)
d, s = (numpy.array(times[n]) for n in ("dense", "sparse"))
picks = numpy.random.default_rng(0).integers(0, len(d), (1000, len(d)))
ratios = numpy.median(d[picks], axis=1) / numpy.median(s[picks], axis=1)
low, high = numpy.quantile(ratios, [0.025, 0.975])
print(json.dumps({"ratio": float(numpy.median(d) / numpy.median(s)), "low": float(low), "high": float(high)}))
"""


def plain_onnxruntime(clone: Path) -> dict[str, Any]:
    """Dense and sparse at 1,024 tokens and 25 % density in an environment with onnxruntime alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = command(
            [str(clone / ".venv/bin/python"), "-m", "benchmarks.attention.plain_models", str(folder)], clone
        )
        if made.returncode != 0:
            return {"error": made.stderr[-1000:]}
        facts = json.loads(made.stdout.strip().splitlines()[-1])
        command([sys.executable, "-m", "venv", "plain"], folder)
        pip = [
            str(folder / "plain/bin/pip"),
            "install",
            "-q",
            "-c",
            str(clone / "constraints.txt"),
            "onnxruntime",
        ]
        installed = command(pip, folder)
        packages = command([str(folder / "plain/bin/pip"), "list", "--format=freeze"], folder).stdout.split()
        paths = {kind: str(folder / f"{kind}.onnx") for kind in ("dense", "sparse")}
        result = command(
            [str(folder / "plain/bin/python"), "-c", PLAIN, json.dumps(paths), str(facts["steps"])], folder
        )
        if installed.returncode or result.returncode:
            return {"error": (installed.stderr + result.stderr)[-1000:]}
        ours = [p for p in packages if p.lower().startswith(("edgesparse", "torch", "onnx=="))]
        measured: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
        return {**facts, **measured, "not_plain": ours}


def bad_input(clone: Path) -> dict[str, Any]:
    """export, run and profile on five bad inputs: one line each, the right exit code, nothing written."""
    program = str(clone / ".venv/bin/edgesparse")
    bundle = str(clone / "demo" / "acsf1_sparse.edgesparse")
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty.csv").write_text("")
        (folder / "text.onnx").write_text("this is not a model\n")
        (folder / "two.csv").write_text("series,time,a,b\n" + "".join(f"0,{t},{t},1\n" for t in range(1460)))
        values = "".join(f"0,{t},{'' if 100 < t < 300 else t % 7}\n" for t in range(1460))
        (folder / "holes.csv").write_text("series,time,a\n" + values)
        before = sorted(folder.iterdir())
        cases: list[tuple[list[str], int]] = [
            (["export", "none", "-o", "x.edgesparse"], 2),
            (["export", "empty.csv", "-o", "x.edgesparse"], 2),
            (["export", "text.onnx", "-o", "x.edgesparse"], 2),
            (["run", "none", "two.csv", "-o", "out.csv"], 2),
            (["run", bundle, "none.csv", "-o", "out.csv"], 2),
            (["run", bundle, "empty.csv", "-o", "out.csv"], 2),
            (["run", "text.onnx", "two.csv", "-o", "out.csv"], 2),
            (["run", bundle, "two.csv", "-o", "out.csv"], 2),
            (["run", bundle, "holes.csv", "two.csv", "-o", "out.csv"], 2),
            (["profile", "none"], 2),
            (["profile", "empty.csv"], 2),
            (["profile", "text.onnx"], 2),
        ]
        for arguments, code in cases:
            result = command([program, *arguments], folder)
            lines = result.stderr.strip().splitlines()
            kind = len(lines) == 1 and lines[0].startswith("edgesparse: error: ")
            if result.returncode != code or not kind or sorted(folder.iterdir()) != before:
                wrong.append(f"{' '.join(arguments[:2])}: exit {result.returncode}, {len(lines)} lines")
        # NaN in the data is a missing value: it is predicted, not refused.
        holes = command([program, "run", bundle, "holes.csv", "--format", "csv"], folder)
        if holes.returncode != 0 or "nan" in holes.stdout.lower():
            wrong.append(f"run on NaN in the data: exit {holes.returncode}")
    return {"cases": len(cases) + 1, "wrong": wrong}


def compare_demo(found: dict[str, Any]) -> list[Line]:
    """The lines about `make demo`."""
    made, seconds = found["result"], found["seconds"]
    ended = found["rc"] == 0 and made is not None
    lines = [line("make demo from a fresh clone", ended, f"exit {found['rc']}", "exit 0, the table")]
    bound = f"under {DEMO_SECONDS:.0f} s"
    lines.append(line("its time", seconds < DEMO_SECONDS, f"{seconds:.0f} s with installation", bound))
    if made is None:
        print(found["tail"])
        return lines
    rows = {row["model"]: row for row in made["rows"]}
    sparse, dense = rows["sparse float32"], rows["dense float32"]
    share = sparse["attention_share"]
    bound = f"at most {BUDGET:.0%} of dense"
    lines.append(line("sparse attention's compute", share <= BUDGET, f"{share:.1%}", bound))
    if QUICK:
        return [*lines, skip("accuracy", "not measured with QUICK=1 (a quarter of the epochs)")]
    a, b = dense["accuracy"], sparse["accuracy"]
    behind = round((a["value"] - b["value"]) * b["n"])
    near = behind <= MOST_BEHIND * b["n"]
    lines.append(line("sparse behind dense", near, f"{behind} of {b['n']} test series", "at most 2"))
    for row in rows.values():
        m = row["accuracy"]
        figure = f"{m['value']:.2f} [{m['low']:.2f}, {m['high']:.2f}], n={m['n']}"
        good = m["value"] >= LEAST_ACCURACY
        lines.append(line(f"accuracy, {row['model']}", good, figure, f"at least {LEAST_ACCURACY}"))
    return lines


def compare_plain(found: dict[str, Any]) -> list[Line]:
    """The lines about plain onnxruntime."""
    if "error" in found:
        return [line("plain onnxruntime", False, found["error"].strip().splitlines()[-1], "runs")]
    ours = ", ".join(found["not_plain"]) or "nothing"
    name = f"sparse over dense there, {found['tokens']} tokens, {found['density']:.0%} density, 1 thread"
    figure = f"{found['ratio']:.2f}x [{found['low']:.2f}, {found['high']:.2f}]"
    return [
        line(
            "opens and predicts in plain onnxruntime",
            ours == "nothing",
            f"ours installed: {ours}",
            "nothing",
        ),
        line(name, found["low"] > 1.0, figure, "faster: interval above 1"),
    ]


def compare_bad_input(found: dict[str, Any]) -> list[Line]:
    """The line about bad input."""
    right = found["cases"] - len(found["wrong"])
    figure = f"{right} of {found['cases']} right" + "".join(f"; {w}" for w in found["wrong"])
    return [line("bad input: one line, right code, nothing written", not found["wrong"], figure, "all")]


def compare_tests(found: dict[str, Any]) -> list[Line]:
    """The line about `make test`."""
    holds = found["rc"] == 0 and found["seconds"] < TEST_SECONDS
    figure = f"{found['summary']}; {found['seconds']:.0f} s with installation"
    return [line("make test from a fresh clone", holds, figure, f"green, under {TEST_SECONDS:.0f} s")]


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    version = commit_version() + ("+quick" if QUICK else "")
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    store: dict[str, Any] = earlier if earlier.get("version") == version else {"version": version}
    for key in ("machine", "quick", "lines"):
        store.pop(key, None)
    machine = machine_now()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "edgesparse"
        made = command(["git", "clone", "-q", str(ROOT), str(clone)], ROOT)
        if made.returncode != 0:
            sys.exit(made.stderr)
        lines = compare_demo(stored(store, "demo", lambda: demo(clone)))
        if not (clone / "demo").exists() and not {"plain", "bad_input"} <= set(store):
            # Resumed: the environment and bundles that the next parts need are made again, roughly.
            command(["make", ".venv/.demo"], clone)
            command([".venv/bin/edgesparse", "quickstart", "-o", "demo", "--epochs", "2"], clone)
        lines += compare_plain(stored(store, "plain", lambda: plain_onnxruntime(clone)))
        lines += compare_bad_input(stored(store, "bad_input", lambda: bad_input(clone)))
        if QUICK:
            lines.append(skip("make test", "left out with QUICK=1"))
        else:
            lines += compare_tests(stored(store, "tests", lambda: tests(clone)))
    return finish(RESULTS, lines, machine, **store)


if __name__ == "__main__":
    sys.exit(main())
