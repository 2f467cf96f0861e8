"""The learning benchmark: accuracy on few labels, on long ranges, without each part and under disturbance.

`python -m benchmarks.learning.main --table sets` runs what is missing and prints the table; stop it whenever,
it goes on where it was; started twice, the two share the runs. Results of the same code version are kept in
bench-results/learning/. `--report` runs nothing; `--write` puts results into benchmarks/results/learning/,
where a later session goes on from them, and the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.learning.data import MissingPackage
from benchmarks.learning.models import RIVALS
from benchmarks.learning.store import ROOT, Job, Record, commit
from benchmarks.learning.tables import TABLES
from benchmarks.support.machine import describe_machine

DOCS = ROOT / "docs" / "benchmarks.md"


def run_jobs(jobs: Sequence[Job], *, until: float | None = None) -> dict[Job, Record]:
    """Stored and new results; what cannot run says why and is left out.

    Args:
        until: no job is started after this time (of `time.monotonic`).
    """
    found: dict[Job, Record] = {}
    missing = []
    for job in jobs:
        record = job.stored()
        if record is None:
            missing.append(job)
        else:
            found[job] = record
    start, skipped = time.monotonic(), set()
    for i, job in enumerate(missing):
        if until is not None and time.monotonic() > until:
            print(f"stopped: {len(missing) - i} runs are left; the same command goes on", file=sys.stderr)
            break
        name = f"{job.set} {job.model} {job.labels} seed {job.seed}"
        if job.set in skipped:
            continue
        try:
            with job.claim() as is_ours:
                # Another process may have finished it since this one began.
                record = job.stored() or (job.run() if is_ours else None)
        except MissingPackage as reason:
            is_rival = job.model in RIVALS
            print(f"skipped {job.model if is_rival else job.set}: it {reason}", file=sys.stderr)
            if not is_rival:
                skipped.add(job.set)
            continue
        if record is None:
            print(f"{name}: another process is at it", file=sys.stderr, flush=True)
            continue
        found[job] = record
        left = (time.monotonic() - start) / (i + 1) * (len(missing) - i - 1)
        accuracy = record["right"].count("1") / record["n"]
        print(
            f"[{i + 1}/{len(missing)}, {left / 60:.0f} min left] {name}: {accuracy:.3f} "
            f"(n={record['n']}, {record['seconds']:.0f} s)",
            file=sys.stderr,
            flush=True,
        )
    return found


def write_table(name: str, text: str, records: Sequence[Record]) -> None:
    """Results as JSON beside the others, and the table between its marks in docs/benchmarks.md."""
    commit(name, describe_machine(1), records)
    first, last = f"<!-- learning {name} -->\n", f"<!-- end of learning {name} -->\n"
    page = DOCS.read_text(encoding="utf-8")
    if first not in page:
        page = page.rstrip("\n") + f"\n\n{first}{last}"
    head, _, rest = page.partition(first)
    _, _, tail = rest.partition(last)
    DOCS.write_text(f"{head}{first}{text}\n{last}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=list(TABLES), required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", help="only these of the table's sets")
    parser.add_argument("--models", nargs="+", help="only these of the table's models")
    parser.add_argument("--minutes", type=float, help="start no run after so many")
    parser.add_argument("--report", action="store_true", help="print what is stored, run nothing")
    parser.add_argument(
        "--write", action="store_true", help="into benchmarks/results/learning and docs/benchmarks.md"
    )
    arguments = parser.parse_args()
    table = TABLES[arguments.table]
    jobs = [
        job
        for job in table.jobs(arguments.seeds)
        if (not arguments.sets or job.set in arguments.sets)
        and (not arguments.models or job.model in arguments.models)
    ]
    until = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    found = run_jobs(jobs, until=time.monotonic() - 1 if arguments.report else until)
    text = table.render(found)
    print(text)
    if arguments.write:
        write_table(arguments.table, text, list(found.values()))


if __name__ == "__main__":
    main()
