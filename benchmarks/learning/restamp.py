"""Stamps committed results with this code: `python -m benchmarks.learning.restamp OLD_CHECKOUT OLD_MODULE`.

For a change of names and places that changes no result. Short default runs must end with the same weights, to
the bit, in this checkout and in the old one, whose results were valid; nothing is stamped otherwise. Data, models
and disturbances of the benchmark itself are compared by whoever runs this: their text may differ in names only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.learning.models import RIVALS
from benchmarks.learning.store import COMMITTED, Job, benchmark_version, code_version, commit
from tests.support.paths import ROOT, source_environment

PROGRAM = """
import importlib, itertools, sys
module = importlib.import_module(sys.argv[1])
behavior = getattr(module, "behavior", None) or module.behaviour
for is_large, is_multichannel in itertools.product((False, True), repeat=2):
    print(behavior(is_large=is_large, is_multichannel=is_multichannel))
"""


def behaviors(checkout: Path, module: str) -> list[str]:
    """The hashes of all kinds of sets, by the checkout's own environment and module."""
    python = checkout / ".venv" / "bin" / "python"
    environment = source_environment() if checkout == ROOT else None
    command = [str(python if python.exists() else sys.executable), "-c", PROGRAM, module]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("module", nargs="?", default="benchmarks.learning.behavior")
    arguments = parser.parse_args()
    before = behaviors(arguments.old.resolve(), arguments.module)
    now = behaviors(ROOT, "benchmarks.learning.behavior")
    if before != now:
        raise SystemExit(f"the trainers differ: {before} and {now}; nothing is stamped")
    for path in sorted(COMMITTED.glob("*.json")):
        table = json.loads(path.read_text(encoding="utf-8"))
        for record in table["records"]:
            job = Job(**record["job"] | {"overrides": tuple(record["job"]["overrides"])})
            record["code"] = code_version(job)
            if job.model not in RIVALS and "benchmark" in record:
                record["benchmark"] = benchmark_version(job)
        commit(path.stem, table["machine"], table["records"])
        print(f"{path.relative_to(ROOT)}: {len(table['records'])} records")


if __name__ == "__main__":
    main()
