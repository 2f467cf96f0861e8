"""Regression and forecasting beside what a user would pick today.

`python -m benchmarks.regression_forecasting.main` runs what is missing, says how long the rest will take,
prints both tables; stop it whenever, it goes on where it was. `--report` runs
nothing; `--write` puts the results into benchmarks/results/ and the tables into docs/benchmarks.md. What
needs a package that is absent is skipped with the reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import torch

from benchmarks.learning.data import MissingPackage
from benchmarks.regression_forecasting.cases import Case, Record, all_cases, commit
from benchmarks.regression_forecasting.tables import TABLES
from tests.support.paths import ROOT

DOCS = ROOT / "docs" / "benchmarks.md"


def run_cases(cases: Sequence[Case], *, until: float | None = None) -> dict[Case, Record]:
    """Stored and new results; what cannot run says why and is left out.

    Args:
        until: no case is started after this time (of `time.monotonic`).
    """
    torch.set_num_threads(1)
    found = {case: record for case in cases if (record := case.stored()) is not None}
    missing = [case for case in cases if case not in found]
    start = time.monotonic()
    for i, case in enumerate(missing):
        if until is not None and time.monotonic() > until:
            print(f"stopped: {len(missing) - i} cases are left; the same command goes on", file=sys.stderr)
            break
        name = f"{case.task}, {case.set}, {case.model}, seed {case.seed}"
        try:
            found[case] = case.run()
        except MissingPackage as reason:
            print(f"skipped {name}: it {reason}", file=sys.stderr)
            continue
        left = (time.monotonic() - start) / (i + 1) * (len(missing) - i - 1)
        seconds = found[case]["seconds"]
        print(
            f"[{i + 1}/{len(missing)}, {left / 60:.0f} min left] {name}: {seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return found


def write_tables(found: dict[Case, Record]) -> None:
    """Results as JSON, and each table between its marks in docs/benchmarks.md."""
    commit(list(found.values()))
    page = DOCS.read_text(encoding="utf-8")
    for name, render in TABLES.items():
        first, last = f"<!-- rivals {name} -->\n", f"<!-- end of rivals {name} -->\n"
        if first not in page:
            page = page.rstrip("\n") + f"\n\n{first}{last}"
        head, _, rest = page.partition(first)
        page = f"{head}{first}{render(found)}\n{last}{rest.partition(last)[2]}"
    DOCS.write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="start no case after so many")
    parser.add_argument("--models", nargs="+", help="run only these")
    parser.add_argument("--sets", nargs="+", help="run only these")
    parser.add_argument("--report", action="store_true", help="print what is stored, run nothing")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results and docs/benchmarks.md")
    arguments = parser.parse_args()
    minutes = -1.0 if arguments.report else arguments.minutes
    until = None if minutes is None else time.monotonic() + 60 * minutes
    cases = all_cases()
    if arguments.models or arguments.sets:
        asked = [
            case
            for case in cases
            if case.model in (arguments.models or [case.model]) and case.set in (arguments.sets or [case.set])
        ]
        run_cases(asked, until=until)
        until = time.monotonic() - 1
    found = run_cases(cases, until=until)
    for render in TABLES.values():
        print(render(found) + "\n")
    if arguments.write:
        write_tables(found)


if __name__ == "__main__":
    main()
