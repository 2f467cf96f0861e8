"""`make prove-people`: a person's files, tools and platform: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. A PART on the command line runs that part alone. Each part is
a function that prints and returns its lines.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engines.engines import Missing, install_npm
from benchmarks.engines.run import PACKAGES, open_in
from benchmarks.estimators.peers import FOLDS, cross_validate
from benchmarks.estimators.suites import EXCEPTIONS, SUITES, run_suite
from benchmarks.examples.run import EXAMPLES, run_example
from benchmarks.proofs.lines import Line, chosen_parts, finish, line, machine_now, skip
from benchmarks.site.check import check_site
from benchmarks.support.settings import QUICK, SCRATCH, report_path
from benchmarks.wheels.build import BUILDS, Entry, build_all
from benchmarks.wheels.fresh import Found, try_wheel
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.errors import EdgeSparseError
from tests.support.paths import ROOT
from tests.support.processes import edgesparse
from tests.support.recordings.faults import FAULTS, Planted
from tests.support.recordings.folders import VARIANTS, Variant, make_folder
from tests.support.synthetic import make_series, tiny_config
from tests.support.tolerances import ENGINES

# Failed checks that a line shows.
MOST_SHOWN = 5
# Of accuracy, below MiniRocket's mean.
MOST_BELOW = 0.03
# For all examples.
MOST_MINUTES = 15
QUICK_EXAMPLES = ("scikit_learn", "watch")
# Built everywhere; the others need tools that a machine may lack.
NEEDED = ("source", "any machine", "this machine")
IN_QUICK = NEEDED
# What `prove_platform` found, for the report.
WHEELS: list[dict[str, Any]] = []


def prove_data() -> list[Line]:
    """A folder of recordings with Japanese headers, malformed variants of it, and planted faults."""
    with tempfile.TemporaryDirectory() as place:
        folder = make_folder(Path(place) / "録音")
        lines = [compare_commands(folder), compare_variants(folder)]
        return [*lines, compare_faults(folder)]


def compare_commands(folder: Path) -> Line:
    """From the folder to a bundle that holds on this machine."""
    run, bundle = folder.parent / "run", folder.parent / "pump.edgesparse"
    commands = [
        ("train", folder, "-o", run, "--window", "1s", "--label-from", "{label}/{group}_*"),
        ("export", run, "-o", bundle, "--data", folder),
    ]
    done = [edgesparse(*words) for words in commands]
    verified = edgesparse("verify", bundle)
    codes = [x.returncode for x in (*done, verified)]
    parity = next((row for row in done[-1].stdout.splitlines() if row.startswith("parity")), "no parity")
    return line(
        "two commands from a folder of recordings with Japanese headers to a verified bundle",
        codes == [0, 0, 0] and "parity  holds" in parity,
        f"exit codes of train, export and verify: {', '.join(map(str, codes))}",
        "all 0, parity holds",
        parity.removeprefix("parity").strip(),
    )


def compare_variants(folder: Path) -> Line:
    """Each ends in one line that names file, row and cure, or gives the values of the good folder."""
    wrong = [name for name, variant in VARIANTS.items() if not keeps(folder, variant, name)]
    read = sum(not variant.words for variant in VARIANTS.values())
    held = len(VARIANTS) - len(wrong)
    figure = f"{held} of {len(VARIANTS)}: {read} read rightly, {len(VARIANTS) - read} refused in one line"
    target = f"{len(VARIANTS)} of {len(VARIANTS)}"
    return line("malformed variants of that folder", not wrong, figure, target, "; ".join(wrong))


def keeps(folder: Path, variant: Variant, name: str) -> bool:
    """What becomes of one variant, through the command line where it is refused."""
    changed = folder.parent / name.replace(" ", "_")
    shutil.copytree(folder, changed)
    variant.change(changed)
    if variant.words:
        done = edgesparse("train", changed, "-o", folder.parent / "none")
        rows = done.stderr.strip().splitlines()
        return done.returncode == 2 and len(rows) == 1 and all(word in rows[0] for word in variant.words)
    try:
        found, good = read_dataset(changed), read_dataset(folder)
    except EdgeSparseError:
        return False
    pairs = zip(found.series, good.series, strict=True)
    return found.channels == good.channels and all((a == b).all() for a, b in pairs)


def compare_faults(folder: Path) -> Line:
    """Each planted fault is found where it is, and nothing is found in the good folder."""
    missed = [name for name in FAULTS if not finds(folder, FAULTS[name], name)]
    false = len(inspect(folder))
    figure = f"{len(FAULTS) - len(missed)} of {len(FAULTS)}, {false} in the good folder"
    target = f"{len(FAULTS)} of {len(FAULTS)}, 0 in the good folder"
    return line(
        "planted faults that `data inspect` finds",
        not missed and not false,
        figure,
        target,
        "; ".join(missed),
    )


def finds(folder: Path, planted: Planted, name: str) -> bool:
    """A finding of that kind in that file and channel, and none of another kind."""
    changed = folder.parent / name.replace(" ", "_")
    shutil.copytree(folder, changed)
    planted.change(changed)
    found = inspect(changed)
    at = [f for f in found if planted.where in f["where"] and f["channel"] == planted.channel]
    return bool(at) and all(f["kind"] == planted.kind for f in found)


def inspect(folder: Path) -> list[dict[str, str]]:
    """What the command line finds."""
    done = edgesparse("data", "inspect", folder, "--label-from", "{label}/{group}_*", "--json")
    findings: list[dict[str, str]] = json.loads(done.stdout)["findings"]
    return findings


def prove_tools() -> list[Line]:
    """The peers' own checks, and one loop with MiniRocket."""
    return [*(compare_suite(suite) for suite in SUITES), compare_cross_validation()]


def compare_suite(suite: tuple[str, str]) -> Line:
    """Checks passed, and the exceptions by name."""
    peer, kind = suite
    name = f"{peer}'s check_estimator on SparseTransformer{kind}"
    known = EXCEPTIONS[peer]
    target = f"every check but {len(known)} named one(s)" if known else "every check"
    if QUICK and kind == "Regressor":
        return skip(name, "left out", target)
    if importlib.util.find_spec(peer) is None:
        return line(name, False, f"{peer} is not installed", target)
    results = run_suite(peer, kind)
    failed = [check for check, verdict in results.items() if verdict != "PASSED"]
    new = [check for check in failed if check.split("(")[0].split("[")[0] not in known]
    named = sorted({check.split("(")[0] for check in failed} & set(known))
    note = "; ".join(f"{check}: {known[check]}" for check in named)
    note = "; ".join([*(f"{check}: {results[check]}" for check in new[:MOST_SHOWN]), *filter(None, [note])])
    passed = len(results) - len(failed)
    return line(name, bool(results) and not new, f"{passed} of {len(results)} passed", target, note)


def compare_cross_validation() -> Line:
    """MiniRocket and ours, by scikit-learn's own loop."""
    name = f"MiniRocket and ours in one cross_val_score loop (BasicMotions, {FOLDS} folds)"
    target = f"both finish; ours at most {100 * MOST_BELOW:.0f} points below"
    if importlib.util.find_spec("aeon") is None:
        return line(name, False, "aeon is not installed", target)
    found = {label: (scores.mean(), seconds) for label, scores, seconds in cross_validate()}
    figure = ", ".join(f"{label} {mean:.3f} in {seconds:.1f} s" for label, (mean, seconds) in found.items())
    ours, theirs = found["ours"][0], found["MiniRocket"][0]
    return line(name, bool(ours >= theirs - MOST_BELOW), figure, target)


def prove_wheels() -> tuple[list[Line], list[dict[str, Any]]]:
    """The lines, and the list of wheels with where each was run."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        entries = {entry["what"]: entry for entry in build_all(folder, IN_QUICK if QUICK else tuple(BUILDS))}
        bundle = make_bundle(folder)
        ran: dict[str, str] = {}
        lines = [
            compare_wheel(folder, entries["any machine"], bundle, ran, name="the pure wheel", native=False),
            compare_wheel(folder, entries["this machine"], bundle, ran, name="the native wheel", native=True),
        ]
        if QUICK:
            lines.append(skip("source, installed without a compiler", "left out", "as the pure wheel"))
        else:
            source = "source, installed"
            lines.append(compare_wheel(folder, entries["source"], bundle, ran, name=source, native=False))
        lines.append(compare_arm64(entries.get("AArch64"), ran))
        lines.append(compare_browser(bundle))
    listed = [{**entry, "run": ran.get(what, "not run")} for what, entry in entries.items()]
    return [list_wheels(listed), *lines], listed


def make_bundle(folder: Path) -> Bundle:
    """The small bundle of the tests."""
    series = make_series()
    run = train(series, tiny_config(), folder / "run", quiet=True)
    return export_run(run, folder / "tiny.edgesparse", data=series)[0]


def list_wheels(listed: list[dict[str, Any]]) -> Line:
    built = [entry for entry in listed if entry["file"]]
    figure = "; ".join(
        f"{entry['tag'] or 'source'} {entry['bytes'] / 1e6:.2f} MB, {entry['run']}" for entry in built
    )
    note = "; ".join(f"{entry['what']}: {entry['reason']}" for entry in listed if entry["reason"])
    holds = {entry["what"] for entry in built} >= set(NEEDED)
    return line("wheels, and where each was run", holds, figure, "source, native and pure are built", note)


def compare_wheel(
    folder: Path, entry: Entry, bundle: Bundle, ran: dict[str, str], *, name: str, native: bool
) -> Line:
    """A wheel predicts in an environment of its own; one without kernels, where no compiler can be found."""
    where = "in a fresh environment" + ("" if native else " without a compiler")
    target = (
        "native kernels" if native else "function body, doctor says what is missed"
    ) + ", scores within 1e-4"
    if not entry["file"]:
        return line(f"{name} {where}", False, entry["reason"], target)
    try:
        found = try_wheel(
            folder / entry["file"],
            bundle,
            folder / f"env {entry['what']}",
            hides_compilers=not native,
            relative=ENGINES.relative,
            absolute=ENGINES.absolute,
        )
    except RuntimeError as error:
        return line(f"{name} {where}", False, str(error).splitlines()[-1][:200], target)
    ran[entry["what"]] = f"run here {where}"
    figure = f"{found['engine'].split(' (')[0]}, largest difference {found['difference']:.1e}"
    note = f"compilers that could be started: {', '.join(found['compilers']) or 'none'}" if not native else ""
    return line(f"{name} {where}", holds(found, native=native), figure, target, note)


def holds(found: Found, *, native: bool) -> bool:
    is_native = found["engine"].startswith("native")
    missed = any("no native kernels" in advice for advice in found["advice"])
    # Where kernels are slower than the function body, as the scalar ones are, a session runs the latter.
    right_engine = is_native or "scalar" in found["engine"] if native else not is_native
    return found["close"] and right_engine and missed != native and (native or not found["compilers"])


def compare_arm64(entry: Entry | None, ran: dict[str, str]) -> Line:
    """The operator's cases under an emulated AArch64 Python, against float64 and this machine's bits."""
    name, target = "the AArch64 wheel under an emulated Python", "every case agrees, native (neon_dotprod)"
    if entry is None:
        return skip(name, "left out", target)
    command = [sys.executable, "-m", "tests.kernels.arm64_wheel"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        ran["AArch64"] = "run under qemu-user here"
    said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[-1]
    return line(name, done.returncode == 0, said[:200], target)


def compare_browser(bundle: Bundle) -> Line:
    """The same bundle in onnxruntime-web, where no kernels of ours exist."""
    name, target = "a bundle in onnxruntime-web in headless Chromium", "the golden scores, within 1e-4"
    packages: Path | Missing
    try:
        packages = install_npm(PACKAGES)
    except Missing as error:
        packages = error
    found = open_in("onnxruntime-web", bundle, "float32", packages)
    if found.verdict == "left out":
        return skip(name, found.detail, target)
    return line(name, found.verdict == "right", f"{found.engine}: {found.detail}", target)


def prove_platform() -> list[Line]:
    """Wheels, and fresh environments without a compiler; the list goes into the report."""
    lines, WHEELS[:] = prove_wheels()
    return lines


def prove_examples() -> list[Line]:
    """Every script in examples/ prints its table."""
    results = [run_example(script) for script in EXAMPLES if not QUICK or script.stem in QUICK_EXAMPLES]
    wrong = [str(result) for result in results if result.different or result.missing]
    seconds = sum(result.seconds for result in results)
    times = ", ".join(f"{result.name} {result.seconds:.0f} s" for result in results)
    figure = f"{len(results) - len(wrong)} of {len(results)} in {seconds / 60:.1f} minutes"
    target = f"{len(results)} of {len(results)} in under {MOST_MINUTES} minutes"
    holds = bool(results) and not wrong and seconds < 60 * MOST_MINUTES
    return [
        line("examples that print their expected table", holds, figure, target, "; ".join([times, *wrong]))
    ]


def prove_site() -> list[Line]:
    """It builds, its snippets run, and people can read it."""
    return [
        skip(shown.name, shown.figure, shown.target) if shown.holds is None else line(*shown)
        for shown in check_site()
    ]


PARTS: dict[str, Callable[[], list[Line]]] = {
    "data": prove_data,
    "tools": prove_tools,
    "platform": prove_platform,
    "examples": prove_examples,
    "site": prove_site,
}


def main() -> int:
    """Runs the parts that are named, or all, and writes prove_people.json."""
    chosen = chosen_parts(__doc__, PARTS) or list(PARTS)
    machine = machine_now()
    lines = [entry for part in chosen for entry in PARTS[part]()]
    path = report_path("prove_people") if set(chosen) == set(PARTS) else SCRATCH / "prove_people.json"
    return finish(path, lines, machine, wheels=WHEELS)


if __name__ == "__main__":
    sys.exit(main())
