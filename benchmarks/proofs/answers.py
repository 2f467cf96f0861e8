"""`make prove-answers`: right answers on ordinary files: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. Each line rests on tests of this checkout, whose results are
stored for its version: an interrupted run resumes. QUICK=1 tries fewer generated examples and leaves out
whole paths. A line whose tests do not exist fails as "not built".
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from functools import partial

from benchmarks.proofs.evidence import NOT_BUILT, Claim, Evidence, run_tests
from benchmarks.proofs.lines import Line, finish, line, machine_now
from benchmarks.support.settings import QUICK, report_path
from tests.support.paths import ROOT

DATA = "tests/runtime/data/"
STREAM = "tests/runtime/stream/"
# Cases of public bug reports that were wrong at 07f76d6, by the trait that each shows.
CASES = {
    "batch-padding: an answer rests on its own series": [f"{DATA}test_invariance.py::alone|neighbo|pad"],
    "time-order: times are parsed, never sorted as text": [
        f"{DATA}test_clock.py::every_form_is_the_same_time",
        f"{DATA}::what_is_no_time_is_refused",
        f"{DATA}::zone_tells_the_hours_apart",
    ],
    "regression-window: a window has the mean of its targets": [f"{DATA}::window_has_the_mean_target"],
    "device-output: a device is written through": ["tests/::device"],
    "label-numbers: different classes stay different": [f"{DATA}::numbers_stay_apart"],
    "coarse-clock: a clock coarser than the samples is noticed": [f"{STREAM}::coarse"],
    "gap-windows: no window reaches over a gap": [f"{DATA}::gap", f"{DATA}::cut_into_windows"],
    "column-names: a signal is not taken for a role": [f"{DATA}test_roles.py::signal_of_that_name_stays"],
    "json-time-key: the time is found by any of its names": [f"{STREAM}::time_is_found|times_by_other_names"],
    "series-ids: series keep their names": [f"{DATA}::series_keep_their_names"],
    "masked-array: a mask counts": ["tests/runtime/::mask"],
    "byte-strings: bytes are decoded": [f"{DATA}::bytes_are_text"],
    "ts-labels: labels of .ts files keep their case": [f"{DATA}::ts_labels_keep_their_case"],
    "missing-labels: one rule": [f"{DATA}::missing_label_is_no_class"],
    "npz-orientation: axes that are swapped are noticed": [f"{DATA}::orientation|axes|swapped"],
    "fork-end: a process forked after loading ends": ["tests/runtime/test_fork.py"],
    "sjis-name: a name in another encoding names its cure": [f"{DATA}::japanese_file_names_its_cure"],
    "row-numbers: indices of other programs are no channels": [f"{DATA}::row_numbers_are_no_channel"],
    "dead-sensor: flagged in every answer": ["tests/runtime/::dead_sensor"],
}
INVARIANCE = [
    DATA + "test_invariance.py",
    STREAM + "test_invariance.py",
    "tests/runtime/serving/test_invariance.py",
    "tests/system/test_invariance.py",
]
# Data sets of each property; streams, servers and verbs try half as many, int8 models a hundredth.
EACH = 20 if QUICK else 700
EXAMPLES = 100 if QUICK else 5_000
# Sections of docs/guides/data.md that are rules; each names the tests that hold it.
RULES = (
    "Forms",
    "Alone",
    "Roles",
    "Time",
    "The grid",
    "A window's target",
    "What comes back",
    "Dead sensors",
    "Intervals",
)
REPORTS = ROOT / "docs" / "reports.md"
MOST_REPORTS = 30
# Sets tests of minutes free.
LONG = {"EDGESPARSE_LONG": "1"}
COMPARE_BYTES = "tests/runtime/measure/test_compare_memory.py::little_memory"


def compare_examples(evidence: Evidence) -> Line:
    """Generated data sets, changed in ways that must not matter."""
    name = "generated data sets: permuted, split, joined, padded, encoded anew"
    target = f"at least {EXAMPLES:,} examples, the same answers within the tolerances"
    missing = [file for file in INVARIANCE if not evidence.find(file)]
    if missing:
        return line(name, False, NOT_BUILT, target, "; ".join(missing))
    nodes = [node for file in INVARIANCE for node in evidence.find(file)]
    os.environ["EDGESPARSE_EXAMPLES"] = str(EACH)
    found = evidence.store.get("examples", partial(run_tests, nodes, "--hypothesis-show-statistics"))
    del os.environ["EDGESPARSE_EXAMPLES"]
    examples = sum(int(n) for n in re.findall(r"(\d+) passing\b", found["output"]))
    holds = found["rc"] == 0 and examples >= EXAMPLES
    return line(name, holds, f"{examples:,} examples, {len(found['failed'])} failures", target)


def compare_rules() -> Line:
    """The page of rules: each section names tests that exist."""
    page = (ROOT / "docs" / "guides" / "data.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    named = {rule: set(re.findall(r"test_\w+\.py", sections.get(rule, ""))) for rule in RULES}
    missing = [rule for rule, tests in named.items() if not tests or tests - files]
    name, held = "docs/guides/data.md: every rule names the tests that hold it", len(RULES) - len(missing)
    return line(name, not missing, f"{held} of {len(RULES)}", f"all {len(RULES)} rules", "; ".join(missing))


def compare_reports() -> Line:
    """A log of public reports that were tried: a table row each."""
    name, target = "further public reports of neighboring tools, tried and logged", f">= {MOST_REPORTS}"
    if not REPORTS.exists():
        return line(name, False, NOT_BUILT, target, str(REPORTS.relative_to(ROOT)))
    rows = re.findall(r"^\| *[^|\s]+[#/][^|]*\|.+\|.+\|", REPORTS.read_text(encoding="utf-8"), re.MULTILINE)
    return line(name, len(rows) >= MOST_REPORTS, len(rows), target)


def compare_paths(evidence: Evidence) -> list[Line]:
    """The first hours of three people, from raw files to the last verb."""
    lines = []
    for person in ("line_engineer", "data_scientist", "encoder"):
        claim = Claim(
            f"a newcomer's path, {person.replace('_', ' ')}",
            [f"tests/system/test_newcomers.py::{person}"],
            "runs from raw files to the last verb",
            is_long=True,
            environment=LONG,
        )
        lines.append(evidence.compare(claim))
    claim = Claim(
        "every stumble of the three has its answer", ["tests/system/test_newcomers.py::every_stumble"]
    )
    return [*lines, evidence.compare(claim)]


def main() -> int:
    """Runs what is not stored yet, compares with the targets, writes prove_answers.json."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    machine, evidence = machine_now(), Evidence("answers")
    same = [f"{STREAM}::file_and_stream_give_the_same", f"{STREAM}::stream_and_file_of_one_recording"]
    cases = [Claim(f"case {name}", tests) for name, tests in CASES.items()]
    cases += [Claim("file and stream give the same windows and scores", same)]
    evidence.run_together(cases)
    lines = [evidence.compare(claim) for claim in cases]
    lines.append(compare_rules())
    lines.append(compare_examples(evidence))
    lines += compare_paths(evidence)
    need = "under 1 GB over both models' own need"
    lines.append(
        evidence.compare(
            Claim("`compare` at 4,096 tokens", [COMPARE_BYTES], need, is_long=True, environment=LONG)
        )
    )
    lines.append(compare_reports())
    return finish(report_path("prove_answers"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
