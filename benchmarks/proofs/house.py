"""`make prove-house`: the claims about the repository's form: PASS or FAIL, name, figure, target.

Exits 1 when one fails. Layout, length and nesting are counted by the reader of the tests
(tests/support/layout.py), repeated lines by benchmarks/support/repeated_lines.py. The long parts run in
a fresh clone of the committed state and resume: each is stored in bench-results/ for its commit, the
proofs that run no tests for the packages and benchmarks as they are.
QUICK=1 leaves them out.

    python -m benchmarks.proofs.house [PART...]    only these long parts, to be stored for a run of all

Long parts: check, main (make demo and make test from a fresh clone among it), kernels, learning, target,
serve, dropin.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.proofs.checkout import command, commit_version, sources_version
from benchmarks.proofs.lines import Line, chosen_parts, finish, line, machine_now, skip
from benchmarks.support.repeated_lines import count_places
from benchmarks.support.settings import COMMITTED, QUICK, SCRATCH, report_path
from benchmarks.support.stored_cases import StoredCases
from edgesparse_runtime.engine import register
from tests.support.layout import Layout, read_layout
from tests.support.paths import ROOT
from tests.support.user_text import find_banned

BEFORE = "07f76d6"
"""The commit before the moves."""
VERDICTS_BEFORE = COMMITTED / "house_before.json"
# Counted in an archive of that commit; counted again where the clone has its history.
REPEATED_BEFORE = 48
MOST_ENTRIES, LONG_LINES, MOST_LONG, MOST_LINES, MOST_NESTING, MOST_README = 20, 60, 10, 100, 5, 149
CHECKS = ("check",)
# In full, as they ran before the moves; the others in their short form.
PROOFS = {"main": "", "kernels": "", "learning": "1", "target": "1", "serve": "1", "dropin": "1"}

# What proofs depend on that run no tests, besides their own folder of benchmarks.
MEASURED = ("edgesparse", "export", "runtime", "pyproject.toml", "constraints.txt", "benchmarks/support")
ROOMS = {
    "kernels": "attention", "learning": "learning", "target": "target", "serve": "serving",
    "dropin": "dropin",
}  # fmt: skip

Store = Callable[[str, Callable[[], Any]], Any]


def compare_layout(layout: Layout) -> list[Line]:
    """Circles, arrows, rooms."""
    circles, back_up = layout.circles(), layout.arrows_back_up()
    between, wrong_way = layout.tests_and_benchmarks(), layout.against_the_direction()
    room, entries = max(layout.entries_per_folder().items(), key=lambda item: item[1])
    return [
        line("circles between files", not circles, len(circles), "0", f"of {len(layout.imports)} imports"),
        line("arrows back up inside a package", not back_up, len(back_up), "0"),
        line("imports against the direction of the packages", not wrong_way, len(wrong_way), "0"),
        line("imports between tests and benchmarks beside tests.support", not between, len(between), "0"),
        line(
            "files and folders in the fullest folder", entries <= MOST_ENTRIES, entries,
            f"<= {MOST_ENTRIES}", f"({room})",
        ),
    ]  # fmt: skip


def compare_functions(layout: Layout) -> list[Line]:
    """Length and nesting."""
    long = [f for f in layout.functions if f.lines > LONG_LINES]
    bare = [f.label for f in long if not f.is_defended]
    longest = max(layout.functions, key=lambda f: f.lines)
    deepest = max(layout.functions, key=lambda f: f.nesting)
    name = f"functions over {LONG_LINES} lines"
    note = f"of {len(layout.functions)}" + (
        f"; not defended: {', '.join(bare)}" if bare else ", each defended"
    )
    return [
        line(name, len(long) <= MOST_LONG and not bare, len(long), f"<= {MOST_LONG}, each defended", note),
        line("lines of the longest function", longest.lines <= MOST_LINES, longest.lines, f"<= {MOST_LINES}",
             f"({longest.label})"),
        line("deepest nesting", deepest.nesting <= MOST_NESTING, deepest.nesting, f"<= {MOST_NESTING}",
             f"({deepest.label})"),
    ]  # fmt: skip


def compare_repeated() -> list[Line]:
    """Places with six or more repeated lines, before and now."""
    before = REPEATED_BEFORE
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "before.tar"
        made = command(["git", "archive", "-o", str(archive), BEFORE], ROOT)
        if made.returncode == 0:
            command(["tar", "-xf", str(archive), "-C", name], ROOT)
            archive.unlink()
            before = len(count_places(Path(name)))
    now = len(count_places(ROOT))
    target = f"<= {before // 2}, half of {before} at {BEFORE}"
    return [line("places with six or more repeated lines", now <= before // 2, now, target)]


def compare_words() -> list[Line]:
    """README's length and the old dialect."""
    lines = len((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    banned = find_banned(ROOT, ROOT / "tests" / "house" / "banned_words.txt")
    return [
        line("lines of README", lines <= MOST_README, lines, "< 150"),
        line("banned words in what a user reads", not banned, len(banned), "0"),
    ]


def compare_golden() -> list[Line]:
    """Bundles of the commit before the moves."""
    found = command([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/golden"], ROOT)
    name = f"bundles and a run made by {BEFORE}: open, verify, predict the same bits"
    return [line(name, found.returncode == 0, last_line(found.stdout), "all pass")]


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1].strip("= ")


def make_in(clone: Path, target: str) -> dict[str, Any]:
    """`make TARGET` in the clone."""
    start = time.monotonic()
    done = command(["make", target], clone)
    lines = re.findall(r"^.*\b(?:passed|failed|error)\b.*$", done.stdout, flags=re.MULTILINE)
    summary = lines[-1].strip("= ") if lines else last_line(done.stdout)
    tail = (done.stdout + done.stderr)[-2000:] if done.returncode else ""
    return {"rc": done.returncode, "seconds": time.monotonic() - start, "summary": summary, "tail": tail}


def run_proof(name: str, quick: str) -> dict[str, Any]:
    """The verdict and the figure of each line that a proof prints, by name."""
    start = time.monotonic()
    done = command(["make", f"prove-{name}"], ROOT, QUICK=quick)
    return {
        "verdicts": read_verdicts(done.stdout),
        "figures": read_figures(done.stdout),
        "rc": done.returncode,
        "seconds": time.monotonic() - start,
    }


def read_verdicts(output: str) -> dict[str, str]:
    """Verdict by name; `----` was the word for SKIP and INFO once."""
    rows = re.findall(r"^(PASS|FAIL|INFO|SKIP|----)  (.+?): ", output, flags=re.MULTILINE)
    return {name.strip(): "INFO" if verdict == "----" else verdict for verdict, name in rows}


def read_figures(output: str) -> dict[str, str]:
    """Figure by name."""
    return dict(re.findall(r"^(?:PASS|FAIL|INFO|SKIP)  (.+?): (.*)", output, flags=re.MULTILINE))


def compare_checks(store: Store, clone: Path, parts: Sequence[str]) -> list[Line]:
    """`make check` from a fresh clone; `make test` and `make demo` as `make prove-main` runs them."""
    lines = []
    if "check" in parts:
        found = store("check", partial(make_in, clone, "check"))
        figure = f"exit {found['rc']}, {found['seconds']:.0f} s: {found['summary']}"
        lines.append(line("make check from a fresh clone", found["rc"] == 0, figure, "exit 0"))
        if found["tail"]:
            print(found["tail"], file=sys.stderr)
    if "main" in parts:
        found = store("prove-main", partial(run_proof, "main", PROOFS["main"]))
        for name in ("make demo from a fresh clone", "make test from a fresh clone"):
            figure = found["figures"].get(name, "not printed")
            lines.append(line(name, found["verdicts"].get(name) == "PASS", figure, "exit 0"))
    return lines


def measured(name: str) -> Store:
    """Stored results of a proof that runs no tests: kept while the packages and its benchmarks stay."""
    return StoredCases(SCRATCH / "house_proofs", sources_version(*MEASURED, f"benchmarks/{ROOMS[name]}")).get


def compare_proofs(store: Store, parts: Sequence[str]) -> list[Line]:
    """Verdicts of the other proofs, before and now: no line that passed fails.

    Args:
        store: for prove-main, which depends on the whole commit.
    """
    before = json.loads(VERDICTS_BEFORE.read_text(encoding="utf-8"))["proofs"]
    isa = register(onnxruntime.SessionOptions()).isa
    lines = []
    for name in (x for x in PROOFS if x in parts):
        keep = store if name == "main" else measured(name)
        found = keep(f"prove-{name}", partial(run_proof, name, PROOFS[name]))
        # What AVX-512 gains, a processor without it does not: some have their verdicts by instruction set.
        kind = f"on_{isa}"
        now, was = found["verdicts"], before[name].get(kind, before[name])["verdicts"]
        lost = [x for x, verdict in now.items() if verdict == "FAIL" and was.get(x) != "FAIL"]
        figure = f"now {summarize(now)}; before {summarize(was)}"
        note = f"; FAIL now and not before: {', '.join(lost)}" if lost else ""
        form = "QUICK=1 make" if PROOFS[name] else "make"
        title = f"verdicts of {form} prove-{name}"
        lines.append(line(title, bool(now) and not lost, figure, "nothing that passed fails", note))
    return lines


def summarize(verdicts: dict[str, str]) -> str:
    counted = Counter(verdicts.values())
    return ", ".join(f"{counted[x]} {x}" for x in ("PASS", "FAIL", "INFO", "SKIP") if counted[x]) or "nothing"


def main(only: Sequence[str] = ()) -> int:
    """Count, run, compare with the targets, write the JSON.

    Args:
        only: long parts to run now; their results are stored, and the JSON is left to a run of all.
    """
    machine = machine_now()
    store = StoredCases(SCRATCH / "house", [commit_version(), *sources_version()]).get
    lines: list[Line] = []
    if not only:
        layout = read_layout(ROOT)
        lines += compare_layout(layout) + compare_functions(layout) + compare_repeated()
        lines += compare_words() + compare_golden()
    parts = only or (() if QUICK else (*CHECKS, *PROOFS))
    if parts:
        with tempfile.TemporaryDirectory() as name:
            clone = Path(name) / "edgesparse"
            command(["git", "clone", "-q", str(ROOT), str(clone)], ROOT)
            lines += compare_checks(store, clone, parts)
        lines += compare_proofs(store, parts)
    else:
        checks = (*CHECKS, "demo", "test")
        lines += [skip(f"make {x} from a fresh clone", "left out with QUICK=1") for x in checks]
        lines += [skip(f"verdicts of make prove-{x}", "left out with QUICK=1") for x in PROOFS]
    target = SCRATCH / "prove_house_parts.json" if only else report_path("prove_house")
    return finish(target, lines, machine)


if __name__ == "__main__":
    sys.exit(main(chosen_parts(__doc__, (*CHECKS, *PROOFS))))
