"""`make prove-security`: the promises of docs/threat-model.md: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. Lines rest on tests of this checkout and on fuzzers, whose
results are stored for its version, so an interrupted run resumes. QUICK=1 fuzzes less and leaves out what
takes long. A line whose machinery does not exist yet fails as "not built".
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from functools import partial
from typing import Any

from benchmarks.proofs.evidence import NOT_BUILT, Claim, Evidence
from benchmarks.proofs.lines import Line, finish, line, machine_now
from benchmarks.proofs.main import command
from benchmarks.support.settings import QUICK, report_path
from tests.support.paths import ROOT

ATTACKS = "tests/attacks/"
# Findings of a review at 07f76d6 by their number; some share a test.
FINDINGS: dict[int, tuple[str, ...]] = {
    1: ("every_session_pins_the_format",),
    2: ("what_passes_is_what_protobuf_reads", "hostile_models_are_refused"),
    3: ("overloads_are_counted|colons_in_names_of_functions",),
    4: ("operators_outside_the_list_are_refused",),
    5: ("no_features|unwritten|poison|fills",),
    6: ("yaml|kserve",),
    7: ("one_source_of_many_cannot_end_the_others",),
    8: ("answer_of_another_type_is_not_sent_as_fp32",),
    9: ("tunnel_is_refused|closes_after|early_answer|honest_clients_are_answered",),
    10: ("unread_answer_counts_until_the_deadline",),
    11: ("what_was_rehearsed_is_what_is_loaded",),
    12: ("links_pipes_and_folders|pipe",),
    13: ("lateness_holds_a_bounded_number_of_bytes|backlog_is_bounded_in_bytes",),
    14: ("require_signature|every_process",),
    15: ("two_writers|staging",),
    16: ("reader_during|looks_twice|replaced_while",),
    17: ("offer_to_upgrade_is_ignored",),
    18: ("half_a_surrogate_pair",),
    19: ("work_of_clients_that_vanish_is_dropped",),
    20: ("keep_descriptors",),
    21: ("cost|fields_are_counted|many_fields",),
    22: ("terminal|escape_sequences|escape",),
    23: ("far_side|ends_what_it_started|sigterm",),
    24: ("bound_topics_name_the_machine",),
    25: ("many_columns|wide_header",),
    26: ("formula|syntax_in_csv",),
    27: ("two_classes_of_one_name",),
    28: ("bad_file_ends_in_one_line|absurd_sizes|end_in_a_sentence",),
    29: ("trailers_are_no_headers",),
    30: ("host_is_named_once",),
    31: ("malformed_requests_do_not_fill_the_log",),
    32: ("exp2|overflow|sanitize",),
    33: ("key_pair|make_key",),
    34: ("older_signed|binds_neither|signature_says",),
}
KINDS = (
    "two parsers that disagree",
    "checked by name, then used by name",
    "bounds that count things instead of bytes or time",
    "state of one source shared by all",
    "text put into generated output",
)
LEAST_SIBLINGS = 5
FUZZ = 20_000 if QUICK else 1_000_000
TRIALS = 20 if QUICK else 500


def compare_findings(evidence: Evidence) -> list[Line]:
    """A test per finding under tests/attacks."""
    missing, tests = [], set()
    for number, patterns in FINDINGS.items():
        entries = [f"{ATTACKS}::{pattern}" for pattern in patterns]
        if all(evidence.find(entry) for entry in entries):
            tests |= set(entries)
        else:
            missing.append(number)
    built = len(FINDINGS) - len(missing)
    name = f"{len(FINDINGS)} findings of the review: a test each in tests/attacks"
    note = f"{NOT_BUILT}: {', '.join(map(str, missing))}" if missing else ""
    lines = [line(name, not missing, built, str(len(FINDINGS)), note)]
    lines.append(evidence.compare(Claim("  the tests of findings", sorted(tests))))
    for kind in KINDS:
        title = f"  siblings of: {kind}"
        found = evidence.find(f"{ATTACKS}::sibling.*{re.sub(r'[^a-z]+', '_', kind.split(',')[0])}")
        holds = len(found) >= LEAST_SIBLINGS
        figure: float | str = len(found) if found else NOT_BUILT
        lines.append(line(title, holds, figure, f">= {LEAST_SIBLINGS}"))
    return lines


def run_make(target: str, *settings: str) -> dict[str, Any]:
    start = time.monotonic()
    done = command(["make", target, *settings], ROOT)
    tail = (done.stdout + done.stderr)[-3000:]
    return {"rc": done.returncode, "seconds": time.monotonic() - start, "tail": tail}


def compare_fuzzers(evidence: Evidence) -> list[Line]:
    """Model files and kernel calls of valid form and hostile meaning."""
    lines = []
    model_fuzzer = ROOT / "benchmarks" / "serving" / "model_fuzz.py"
    name, target = f"{FUZZ:,} model files, valid protobuf of hostile meaning", "no finding"
    if model_fuzzer.exists():
        program = [sys.executable, "-m", "benchmarks.serving.model_fuzz", "--runs", str(FUZZ)]
        found = evidence.store.get("model-fuzz", lambda: {"rc": command(program, ROOT).returncode})
        lines.append(line(name, found["rc"] == 0, f"exit {found['rc']}", target))
    else:
        lines.append(line(name, False, NOT_BUILT, target, str(model_fuzzer.relative_to(ROOT))))
    makefile = (ROOT / "runtime" / "kernels" / "kernels.mk").read_text(encoding="utf-8")
    name = f"{FUZZ:,} kernel calls under address and undefined-behavior sanitizers; two fills of fresh memory"
    target = "no finding, the same bits under both fills"
    if "fuzz_operators" not in makefile:
        lines.append(line(name, False, NOT_BUILT, target))
    else:
        run = partial(run_make, "test-sanitize", f"CALLS={FUZZ}")
        found = evidence.store.get("kernel-fuzz", run)
        lines.append(line(name, found["rc"] == 0, f"exit {found['rc']}, {found['seconds']:.0f} s", target))
        if found["rc"]:
            print(found["tail"], file=sys.stderr)
    return lines


WRITERS = f"{ATTACKS}test_writers.py::"
CLAIMS = [
    Claim("the checker and onnxruntime read the same graph", [f"{ATTACKS}test_two_readers.py"]),
    Claim(
        "no model file under 1 MB costs more than 2 s or 500 MB to check and open",
        [f"{ATTACKS}::model.*(cost|seconds|memory)|small_file"],
        "<= 2 s, <= 500 MB",
    ),
    Claim(
        "poisoned memory: every operator, the same bits under two fills",
        [f"{ATTACKS}test_kernels.py::fill|poison"],
    ),
    Claim(
        "honest clients under attack, without and with a token",
        [f"{ATTACKS}test_slow_clients.py::honest_clients"],
        ">= 95 % answered within the deadline",
    ),
    Claim(
        "10,000 connections, floods, pipelining: memory stays in bounds",
        [f"{ATTACKS}::ten_thousand|10_000"],
        "a stated bound",
        is_long=True,
    ),
    Claim(
        f"kill -9, two writers and an exchanging attacker, {TRIALS} times per verb",
        [f"{WRITERS}kill", f"{WRITERS}two_writers", f"{WRITERS}exchang"],
        "never no bundle, never a mixed one",
        is_long=True,
    ),
    Claim(
        "one hostile source among three: the others' scores are the same",
        [f"{ATTACKS}test_streams.py::one_source_of_many", f"{ATTACKS}test_streams.py::machines_are_bounded"],
    ),
    Claim("  memory of streams is bounded in bytes", [f"{ATTACKS}test_streams.py::bytes"]),
    Claim("TLS: the same attacks", [f"{ATTACKS}::handshake|tls"]),
    Claim("a real broker: the same attacks", [f"{ATTACKS}::broker|topic"]),
    Claim(
        "a real sshd: the far side ends what it started",
        ["tests/system/test_remote.py::ends|killed|signal"],
        is_long=True,
    ),
    Claim(
        "Ray: a signature is required in every process",
        ["tests/runtime/deploying/::signature"],
        is_long=True,
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
        if not re.match(r"^\|[ -|:]*\|$", row)
    ]
    promises = rows[1:]
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
    lines.append(line("  each of these tests fails on 07f76d6", False, NOT_BUILT, "every test"))
    lines += compare_fuzzers(evidence)
    lines += [evidence.compare(claim) for claim in CLAIMS]
    lines.append(compare_model_page())
    return finish(report_path("prove_security"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
