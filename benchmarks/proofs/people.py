"""`make prove-people`: a person's files, tools and platform: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. A PART on the command line runs that part alone. Each part is
a function that prints and returns its lines.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.estimators.peers import compare_cross_validation
from benchmarks.estimators.suites import SUITES, compare_suite
from benchmarks.proofs.lines import Line, chosen_parts, finish, line, machine_now
from benchmarks.support.settings import report_path
from edgesparse_runtime.data.readers import read_dataset
from edgesparse_runtime.errors import EdgeSparseError
from tests.support.processes import edgesparse
from tests.support.recordings.faults import FAULTS, Planted
from tests.support.recordings.folders import VARIANTS, Variant, make_folder


def prove_data() -> list[Line]:
    """A folder of recordings with Japanese headers, malformed variants of it, and planted faults."""
    with tempfile.TemporaryDirectory() as place:
        folder = make_folder(Path(place) / "録音")
        lines = [compare_commands(folder), compare_variants(folder)]
        return [*lines, compare_faults(folder)]


def compare_commands(folder: Path) -> Line:
    """From the folder to a bundle that holds on this machine."""
    run, bundle = folder.parent / "run", folder.parent / "pump.edgesparse"
    commands = [
        ("train", folder, "-o", run, "--window", "1s", "--label-from", "{label}/{group}_*"),
        ("export", run, "-o", bundle, "--data", folder),
    ]
    done = [edgesparse(*words) for words in commands]
    verified = edgesparse("verify", bundle)
    codes = [x.returncode for x in (*done, verified)]
    parity = next((row for row in done[-1].stdout.splitlines() if row.startswith("parity")), "no parity")
    return line(
        "two commands from a folder of recordings with Japanese headers to a verified bundle",
        codes == [0, 0, 0] and "parity  holds" in parity,
        f"exit codes of train, export and verify: {', '.join(map(str, codes))}",
        "all 0, parity holds",
        parity.removeprefix("parity").strip(),
    )


def compare_variants(folder: Path) -> Line:
    """Each ends in one line that names file, row and cure, or gives the values of the good folder."""
    wrong = [name for name, variant in VARIANTS.items() if not keeps(folder, variant, name)]
    read = sum(not variant.words for variant in VARIANTS.values())
    held = len(VARIANTS) - len(wrong)
    figure = f"{held} of {len(VARIANTS)}: {read} read rightly, {len(VARIANTS) - read} refused in one line"
    target = f"{len(VARIANTS)} of {len(VARIANTS)}"
    return line("malformed variants of that folder", not wrong, figure, target, "; ".join(wrong))


def keeps(folder: Path, variant: Variant, name: str) -> bool:
    """What becomes of one variant, through the command line where it is refused."""
    changed = folder.parent / name.replace(" ", "_")
    shutil.copytree(folder, changed)
    variant.change(changed)
    if variant.words:
        done = edgesparse("train", changed, "-o", folder.parent / "none")
        rows = done.stderr.strip().splitlines()
        return done.returncode == 2 and len(rows) == 1 and all(word in rows[0] for word in variant.words)
    try:
        found, good = read_dataset(changed), read_dataset(folder)
    except EdgeSparseError:
        return False
    pairs = zip(found.series, good.series, strict=True)
    return found.channels == good.channels and all((a == b).all() for a, b in pairs)


def compare_faults(folder: Path) -> Line:
    """Each planted fault is found where it is, and nothing is found in the good folder."""
    missed = [name for name in FAULTS if not finds(folder, FAULTS[name], name)]
    false = len(inspect(folder))
    figure = f"{len(FAULTS) - len(missed)} of {len(FAULTS)}, {false} in the good folder"
    target = f"{len(FAULTS)} of {len(FAULTS)}, 0 in the good folder"
    return line(
        "planted faults that `data inspect` finds",
        not missed and not false,
        figure,
        target,
        "; ".join(missed),
    )


def finds(folder: Path, planted: Planted, name: str) -> bool:
    """A finding of that kind in that file and channel, and none of another kind."""
    changed = folder.parent / name.replace(" ", "_")
    shutil.copytree(folder, changed)
    planted.change(changed)
    found = inspect(changed)
    at = [f for f in found if planted.where in f["where"] and f["channel"] == planted.channel]
    return bool(at) and all(f["kind"] == planted.kind for f in found)


def inspect(folder: Path) -> list[dict[str, str]]:
    """What the command line finds."""
    done = edgesparse("data", "inspect", folder, "--label-from", "{label}/{group}_*", "--json")
    findings: list[dict[str, str]] = json.loads(done.stdout)["findings"]
    return findings


def prove_tools() -> list[Line]:
    """The peers' own checks, and one loop with MiniRocket."""
    return [*(compare_suite(suite) for suite in SUITES), compare_cross_validation()]


PARTS: dict[str, Callable[[], list[Line]]] = {"data": prove_data, "tools": prove_tools}


def main() -> int:
    """Runs the parts that are named, or all, and writes prove_people.json."""
    chosen = chosen_parts(__doc__, PARTS) or list(PARTS)
    machine = machine_now()
    lines = [entry for part in chosen for entry in PARTS[part]()]
    return finish(report_path("prove_people"), lines, machine)


if __name__ == "__main__":
    sys.exit(main())
