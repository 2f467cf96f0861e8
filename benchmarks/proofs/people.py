"""`make prove-people`: a person's files, tools and platform: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. A PART on the command line runs that part alone. Each part is
a function that prints and returns its lines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.proofs.evidence import NOT_BUILT
from benchmarks.proofs.lines import Line, chosen_parts, finish, line, machine_now
from benchmarks.support.settings import report_path

VARIANTS, FAULTS = 10, 12


def prove_data() -> list[Line]:
    """A folder of recordings with Japanese headers, malformed variants of it, and planted faults."""
    claims = {
        "two commands from a folder of recordings to a verified bundle": "train, export; verify holds",
        "malformed variants of that folder": f"{VARIANTS} of {VARIANTS} end in one line, or are read rightly",
        "planted faults that `data inspect` finds": f"{FAULTS} of {FAULTS}",
    }
    return [line(name, False, NOT_BUILT, target) for name, target in claims.items()]


PARTS: dict[str, Callable[[], list[Line]]] = {"data": prove_data}


def main() -> int:
    """Runs the parts that are named, or all, and writes prove_people.json."""
    chosen = chosen_parts(__doc__, PARTS) or list(PARTS)
    machine = machine_now()
    lines = [entry for part in chosen for entry in PARTS[part]()]
    return finish(report_path("prove_people"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
