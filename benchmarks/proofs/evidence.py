"""Claims that tests hold: which tests are the evidence, whether they exist, and whether they pass.

Evidence is `PATH` (every test below it) or `PATH::PATTERN` (tests whose name the regular expression finds).
A claim may name exact ids instead, with parameters or without. Evidence that matches no test makes a claim
FAIL with the words "not built". Results are stored for the version of the sources, so that an interrupted
proof resumes.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.proofs.checkout import command, commit_version, sources_version
from benchmarks.proofs.lines import Line, line, skip
from benchmarks.support.settings import QUICK, SCRATCH
from benchmarks.support.stored_cases import StoredCases
from tests.support.paths import ROOT

NOT_BUILT = "not built"


@dataclass(frozen=True)
class Claim:
    """A line of a proof.

    Attributes:
        name: what is claimed.
        tests: the evidence; every entry must match a test.
        target: in words.
        is_long: left out with `QUICK=1`.
        is_exact: the entries are ids, not patterns.
        environment: variables of the tests' process.
        is_parallel: a process per processor; no test measures time.
    """

    name: str
    tests: Sequence[str]
    target: str = "all pass"
    is_long: bool = False
    is_exact: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    is_parallel: bool = False

    @property
    def is_plain(self) -> bool:
        """Its tests may run in one process with those of other claims."""
        return not (self.is_long or self.environment or self.is_parallel)


@dataclass
class Evidence:
    """Tests of this checkout by node id, and their results for this version of the sources."""

    name: str
    collected: list[str] = field(default_factory=list)
    _together: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = StoredCases(SCRATCH / self.name, [commit_version(), *sources_version()], QUICK)
        self.collected = self.store.get("collected", _collect)

    def find(self, evidence: str) -> list[str]:
        """Node ids without parameters that the evidence matches."""
        path, _, pattern = evidence.partition("::")
        found = {_bare(node) for node in self.collected if node.startswith(path)}
        return sorted(node for node in found if re.search(pattern, node.split("::", 1)[1]))

    def missing(self, ids: Iterable[str]) -> list[str]:
        """The exact ids that are no tests."""
        known = {*self.collected, *map(_bare, self.collected)}
        return [node for node in ids if node not in known]

    def run_together(self, claims: Sequence[Claim]) -> None:
        """Run what these claims rest on, but for what needs a process of its own, at once.

        A process per claim would spend most of its time on starting.
        """
        nodes = {node for claim in claims if claim.is_plain for node in self._nodes(claim)}
        options = ["-n", str(os.cpu_count()), "--dist", "loadfile"]
        found = self.store.get("together", lambda: run_tests(sorted(nodes), *options))
        self._together = found["outcomes"]

    def compare(self, claim: Claim) -> Line:
        """Run what the claim rests on, unless it has run, and print its line."""
        if claim.is_long and QUICK:
            return skip(claim.name, "left out with QUICK=1", claim.target)
        if claim.is_exact:
            missing = self.missing(claim.tests)
        else:
            missing = [entry for entry in claim.tests if not self.find(entry)]
        if missing or not claim.tests:
            return line(claim.name, False, NOT_BUILT, claim.target, "; ".join(missing))
        nodes = self._nodes(claim)
        have_run = {node: outcome for node, outcome in self._together.items() if {node, _bare(node)} & nodes}
        if claim.is_plain and nodes <= {*have_run, *map(_bare, have_run)}:
            return self._line(claim, _summary(have_run))
        name = re.sub(r"\W+", "-", claim.name)[:80]
        options = ["-n", str(os.cpu_count())] if claim.is_parallel else []
        found = self.store.get(name, lambda: run_tests(sorted(nodes), *options, **claim.environment))
        return self._line(claim, found)

    def _nodes(self, claim: Claim) -> set[str]:
        """The ids that a claim rests on."""
        return {*claim.tests} if claim.is_exact else {node for x in claim.tests for node in self.find(x)}

    def outcomes(self, name: str, ids: Sequence[str]) -> dict[str, str]:
        """The outcomes of exact ids, parameters told apart; the run is stored by `name`."""
        found = self.store.get(name, lambda: run_tests(sorted({*ids})))
        outcomes: dict[str, str] = found["outcomes"]
        return outcomes

    @staticmethod
    def _line(claim: Claim, found: dict[str, Any]) -> Line:
        counts = found["counts"]
        holds = counts.get("passed", 0) > 0 and not counts.get("failed") and found["rc"] == 0
        note = f"; failed: {', '.join(found['failed'])}" if found["failed"] else ""
        return line(claim.name, holds, ", ".join(f"{n} {x}" for x, n in counts.items()), claim.target, note)


def _collect() -> list[str]:
    done = command([sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"], ROOT)
    return sorted({row for row in done.stdout.splitlines() if "::" in row})


def _bare(node: str) -> str:
    """An id without parameters."""
    return node.partition("[")[0]


def run_tests(nodes: Sequence[str], *options: str, **environment: str) -> dict[str, Any]:
    """Run tests in a process of their own; counts by outcome, failed node ids, and what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        arguments = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options, *nodes]
        done = command([sys.executable, "-m", "pytest", *arguments], ROOT, OMP_NUM_THREADS="1", **environment)
        cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
        outcomes = [(f"{case.get('classname')}::{case.get('name')}", _outcome(case)) for case in cases]
    summary = _summary({_id(name): outcome for name, outcome in outcomes})
    return {**summary, "rc": done.returncode, "output": done.stdout[-20_000:]}


def _summary(outcomes: Mapping[str, str]) -> dict[str, Any]:
    """Counts by outcome and what failed."""
    counts = dict(Counter(outcomes.values()))
    failed = [node for node, outcome in outcomes.items() if outcome == "failed"]
    return {"rc": int(bool(failed)), "counts": counts, "failed": failed, "outcomes": dict(outcomes)}


def _id(name: str) -> str:
    """The id of a test by its module and name."""
    module, _, test = name.partition("::")
    return f"{module.replace('.', '/')}.py::{test}"


def _outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
