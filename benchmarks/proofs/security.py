"""`make prove-security`: the promises of docs/threat-model.md: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. Lines rest on tests of this checkout, fuzzers and a crowd of
hostile connections. Results are stored for its version, heavy ones in parts, so an interrupted run resumes;
progress is printed to stderr. FUZZ, TRIALS and CROWD set how much; QUICK=1 does less and leaves out what
takes long. A test that does not exist fails as "not built".
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.proofs.checkout import command, sources_version
from benchmarks.proofs.evidence import NOT_BUILT, Claim, Evidence
from benchmarks.proofs.lines import Line, finish, line, machine_now, skip
from benchmarks.proofs.security_findings import FINDINGS, SIBLINGS
from benchmarks.serving.crowd import measure_crowd
from benchmarks.support.settings import QUICK, SCRATCH, report_path
from benchmarks.support.stored_cases import StoredCases
from tests.support.paths import ROOT

ATTACKS = "tests/attacks/"
LEAST_SIBLINGS = 5
FUZZ = int(os.environ.get("FUZZ", 2_000 if QUICK else 1_000_000))
# One part is a minute of work or two; a part per processor runs at a time.
PART = {"model-fuzz": 20_000, "kernel-fuzz": 50_000}
FUZZED = {
    "model-fuzz": (
        "runtime/edgesparse_runtime/model_check", "benchmarks/serving/fuzz_models.py",
        *(f"tests/support/{name}.py" for name in ("hostile_models", "model_agreement", "model_fuzz")),
    ),
    "kernel-fuzz": ("runtime/kernels", "tests/kernels/hostile.py", "tests/support/kernels"),
}  # fmt: skip
TRIALS = int(os.environ.get("TRIALS", 500))
CROWD = int(os.environ.get("CROWD", 500 if QUICK else 10_000))
LEAST_ANSWERED, MOST_MEGABYTES = 0.95, 500


def compare_findings(evidence: Evidence) -> list[Line]:
    """A line per finding, with the ids of its tests; siblings by kind."""
    ids = [node for finding in FINDINGS.values() for node in finding.tests]
    ids += [node for siblings in SIBLINGS.values() for node in siblings]
    missing = evidence.missing(ids)
    outcomes = evidence.outcomes("findings", [node for node in ids if node not in missing])
    lines = []
    for number, finding in FINDINGS.items():
        found = [_outcome(node, missing, outcomes) for node in finding.tests]
        name = f"finding {number}, {finding.name}"
        lines.append(line(name, _hold(found), _counted(found), "all pass", "; ".join(finding.tests)))
    for kind, siblings in SIBLINGS.items():
        found = [_outcome(node, missing, outcomes) for node in siblings]
        holds = _hold(found) and found.count("passed") >= LEAST_SIBLINGS
        lines.append(
            line(f"siblings of: {kind}", holds, _counted(found), f">= {LEAST_SIBLINGS} tests, all pass")
        )
    return lines


def _outcome(node: str, missing: Sequence[str], outcomes: Mapping[str, str]) -> str:
    """Of one id; of all its parameters where it names none."""
    if node in missing:
        return NOT_BUILT
    found = {outcome for test, outcome in outcomes.items() if test == node or test.startswith(f"{node}[")}
    return next((x for x in ("failed", "passed", "skipped") if x in found), NOT_BUILT)


def _hold(outcomes: Sequence[str]) -> bool:
    return "passed" in outcomes and not {NOT_BUILT, "failed"} & {*outcomes}


def _counted(outcomes: Sequence[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in Counter(outcomes).items())


def run_make(target: str, *settings: str) -> dict[str, Any]:
    start = time.monotonic()
    done = command(["make", target, *settings], ROOT)
    tail = (done.stdout + done.stderr)[-3000:]
    return {"rc": done.returncode, "seconds": time.monotonic() - start, "tail": tail}


def run_in_parts(
    store: StoredCases, name: str, total: int, part: int, run: Callable[[int, int], Any]
) -> list[Any]:
    """Heavy work in parts, each stored when it is done, with progress and the time that is left on stderr.

    Args:
        run: does `count` from a seed in a process of its own; `ok` False in its result ends the work.
    """
    parts = [(min(part, total - first), seed) for seed, first in enumerate(range(0, total, part))]
    start, done = time.monotonic(), 0
    results: list[Any] = []

    def run_part(count: int, seed: int) -> Any:
        if any(not found["ok"] for found in results):
            return {"ok": False, "tail": "left out after a finding"}
        return store.get(f"{name}-{seed}-{count}", partial(run, count, seed))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (count, _), found in zip(parts, pool.map(lambda x: run_part(*x), parts), strict=True):
            results.append(found)
            done += count
            left = (time.monotonic() - start) * (total - done) / done / 60
            print(f"{name}: {done:,} of {total:,}, {left:.0f} min left", file=sys.stderr, flush=True)
            if not found["ok"]:
                break
    return results


def fuzz_models(count: int, seed: int) -> dict[str, Any]:
    """Model files of valid form and hostile meaning."""
    program = [sys.executable, "-m", "benchmarks.serving.fuzz_models", "--count", str(count)]
    done = command([*program, "--seed", str(seed)], ROOT)
    return {"ok": done.returncode == 0, "tail": (done.stdout + done.stderr)[-3000:]}


def fuzz_kernels(count: int, seed: int) -> dict[str, Any]:
    """Kernel calls under sanitizers; each part has seeds of its own."""
    found = run_make("fuzz-kernels", f"CALLS={count}", f"SEED={seed * PART['kernel-fuzz']}")
    return {"ok": found["rc"] == 0, **found}


def build_sanitized() -> dict[str, Any]:
    """What `fuzz-kernels` calls, built and tested, under the real onnxruntime too."""
    found = run_make("test-sanitize")
    return {"ok": found["rc"] == 0, **found}


def compare_fuzzers() -> list[Line]:
    """Model files and kernel calls of valid form and hostile meaning."""
    lines = []
    # Hours of work: kept while what is attacked and what attacks stay as they are.
    stores = {name: StoredCases(SCRATCH / "fuzz", sources_version(*paths)) for name, paths in FUZZED.items()}
    for name, title, run, target in (
        ("model-fuzz", "model files, valid protobuf of hostile meaning", fuzz_models, "no finding"),
        (
            "kernel-fuzz",
            "kernel calls under address and undefined-behavior sanitizers; two fills of fresh memory",
            fuzz_kernels,
            "no finding, the same bits under both fills",
        ),
    ):
        if QUICK and name == "kernel-fuzz":
            lines.append(skip(title, "left out with QUICK=1", target))
            continue
        # Built each time: the folder may hold another version's.
        built = [build_sanitized()] if name == "kernel-fuzz" else []
        parts = run_in_parts(stores[name], name, FUZZ, PART[name], run) if not built or built[0]["ok"] else []
        results = [*built, *parts]
        holds = all(found["ok"] for found in results)
        lines.append(line(f"{FUZZ:,} {title}", holds, f"{len(results)} parts", target))
        if not holds:
            print(results[-1]["tail"], file=sys.stderr)
    return lines


def compare_crowds(evidence: Evidence) -> list[Line]:
    """Honest clients while ten thousand connections attack, without and with a token."""
    lines = []
    for token in (False, True):
        name = f"{CROWD:,} hostile connections, {'with' if token else 'without'} a token"
        found = evidence.store.get(f"crowd-{CROWD}-{token}", partial(measure_crowd, CROWD, with_token=token))
        holds = found["answered"] >= LEAST_ANSWERED and found["at_once"] >= CROWD
        lines.append(
            line(
                f"{name}: honest requests answered in time",
                holds,
                found["answered"],
                f">= {LEAST_ANSWERED}",
                f"{found['at_once']:,} connections at once",
            )
        )
        fits = found["peak_mb"] - found["rest_mb"] <= MOST_MEGABYTES
        figure = found["peak_mb"] - found["rest_mb"]
        lines.append(line("  memory of the server above its rest, MB", fits, figure, f"<= {MOST_MEGABYTES}"))
    return lines


WRITERS = f"{ATTACKS}test_writers.py::"
CLAIMS = [
    Claim("the checker and onnxruntime read the same graph", [f"{ATTACKS}test_two_readers.py"]),
    Claim(
        "no model file under 1 MB costs more than 2 s or 500 MB to check and open",
        [f"{ATTACKS}test_opening_cost.py"],
        "<= 2 s, <= 500 MB",
    ),
    Claim(
        "poisoned memory: every operator, the same bits under two fills",
        ["tests/kernels/test_operators.py::no_output_depends"],
    ),
    Claim(
        "honest clients under attack, without and with a token",
        [f"{ATTACKS}test_slow_clients.py::honest_clients"],
        ">= 95 % answered within the deadline",
    ),
    Claim(
        "floods, pipelining, unread answers, clients that vanish: bounds in bytes",
        [f"{ATTACKS}test_slow_clients.py::pipelined|unread|vanish|announced|large_request"],
    ),
    Claim(
        f"kill -9, two writers and an exchanging attacker, {TRIALS} times per verb",
        [f"{WRITERS}kill", f"{WRITERS}two_writers", f"{WRITERS}exchang"],
        "never no bundle, never a mixed one",
        is_long=True,
        environment={"EDGESPARSE_TRIALS": str(TRIALS)},
        is_parallel=True,
    ),
    Claim(
        "one hostile source among three: the others' scores are the same",
        [f"{ATTACKS}test_streams.py::other_topics_score_the_same|changes_nobody|change_nobody"],
        environment={"EDGESPARSE_NAMES": "100000"},
    ),
    Claim(
        "  memory of streams is bounded in bytes", [f"{ATTACKS}test_streams.py::bytes|bounded|without_bound"]
    ),
    Claim("TLS: the same attacks", [f"{ATTACKS}::handshake|tls"]),
    Claim(
        "a real broker: a hostile topic changes no other score",
        ["tests/system/test_streaming.py::hostile_topic", f"{ATTACKS}test_streams.py::topic"],
    ),
    Claim(
        "a real sshd: the far side ends what it started",
        ["tests/system/test_remote.py::lost_connection", f"{ATTACKS}test_remote_ends.py"],
    ),
    Claim(
        "the front of Ray, with a stand-in for Ray: a signature is required in every process",
        [f"{ATTACKS}test_ray_front.py"],
    ),
    Claim(
        "generated text: every field of a bundle, a data file or a client is data",
        [f"{ATTACKS}test_generated_text.py"],
    ),
]


def compare_model_page() -> Line:
    """docs/threat-model.md: rows of promises, each with its construction and its test."""
    page = ROOT / "docs" / "threat-model.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    rows = [
        row
        for row in re.findall(r"^\|.*\|$", text, flags=re.MULTILINE)
        if not re.match(r"^\|[-|: ]*\|$", row)
    ]
    promises = [row for row in rows if not row.startswith("| promise |")]
    bare = [
        row for row in promises
        if not (named := re.findall(r"tests/[\w/.-]+", row)) or not all((ROOT / x).exists() for x in named)
    ]  # fmt: skip
    name = "docs/threat-model.md: each promise names its construction and its test"
    if not promises:
        return line(name, False, NOT_BUILT, "every row")
    return line(name, not bare, f"{len(promises) - len(bare)} of {len(promises)}", "every row")


def main() -> int:
    """Runs what is not stored yet, compares with the targets, writes prove_security.json."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    machine, evidence = machine_now(), Evidence("security")
    lines = compare_findings(evidence)
    lines += compare_fuzzers()
    lines += compare_crowds(evidence)
    evidence.run_together(CLAIMS)
    lines += [evidence.compare(claim) for claim in CLAIMS]
    lines.append(compare_model_page())
    return finish(report_path("prove_security"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
