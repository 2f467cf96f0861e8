"""Stamps committed results with this code: `python -m benchmarks.learning.restamp OLD_CHECKOUT`.

For a change of names and places that changes no result. Short default runs must end with the same weights,
to the bit, in this checkout and in the old one; nothing is stamped otherwise. Only results that name the old
checkout's code are stamped. Data, models and disturbances of the benchmark itself are compared by whoever
runs this: their text may differ in names only.

For 07f76d6: `--behavior benchmarks.learning_behaviour --store benchmarks.learning_store`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.learning.long_range import LONG_RANGE
from benchmarks.learning.models import RIVALS
from benchmarks.learning.store import COMMITTED, Job, benchmark_version, code_version, commit
from tests.support.paths import ROOT, source_environment

PROGRAM = """
import importlib, inspect, itertools, json, sys
module, store = map(importlib.import_module, sys.argv[1:])
behavior = getattr(module, "behavior", None) or module.behaviour
names = list(inspect.signature(behavior).parameters)
kinds = itertools.product((False, True), repeat=2)
jobs = ((s, m) for s in ("ACSF1", "product-1024") for m in ("sparse", "MiniRocket"))
print(json.dumps({
    "behaviors": [behavior(**{names[0]: a, names[1]: b}) for a, b in kinds],
    "codes": [store.code_version(store.Job(*job)) for job in jobs],
}))
"""


def facts(checkout: Path, behavior: str, store: str) -> dict[str, Any]:
    """Hashes of short runs of all kinds of sets, and of the code behind each kind of result."""
    python = checkout / ".venv" / "bin" / "python"
    environment = source_environment() if checkout == ROOT else None
    command = [str(python if python.exists() else sys.executable), "-c", PROGRAM, behavior, store]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("--behavior", default="benchmarks.learning.behavior")
    parser.add_argument("--store", default="benchmarks.learning.store")
    arguments = parser.parse_args()
    before = facts(arguments.old.resolve(), arguments.behavior, arguments.store)
    now = facts(ROOT, "benchmarks.learning.behavior", "benchmarks.learning.store")
    if before["behaviors"] != now["behaviors"]:
        raise SystemExit(f"the trainers differ: {before['behaviors']} and {now['behaviors']}")
    for path in sorted(COMMITTED.glob("*.json")):
        table = json.loads(path.read_text(encoding="utf-8"))
        stamped = 0
        for record in table["records"]:
            job = Job(**record["job"] | {"overrides": tuple(record["job"]["overrides"])})
            if record["code"] == before["codes"][2 * (job.set in LONG_RANGE) + (job.model in RIVALS)]:
                record["code"], stamped = code_version(job), stamped + 1
                if "benchmark" in record:
                    record["benchmark"] = benchmark_version(job)
                # The name of the field before the spelling became American.
                if "behaviour" in record:
                    record["behavior"] = record.pop("behaviour")
        commit(path.stem, table["machine"], table["records"])
        print(f"{path.relative_to(ROOT)}: {stamped} of {len(table['records'])} records")


if __name__ == "__main__":
    main()
