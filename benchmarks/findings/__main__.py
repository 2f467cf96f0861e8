"""`python -m benchmarks.findings CHECKOUT [NUMBER...]`: what the attacks come to at CHECKOUT and here.

CHECKOUT is a folder with commit 07f76d6 and its `.venv`. Outcomes are added to
benchmarks/results/security_before.json, each as it was seen.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.findings import bundles, data_files, models, remote, server, streams
from benchmarks.findings.box import Box, Outcome, note
from benchmarks.proofs.security_findings import FINDINGS
from tests.support.paths import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "security_before.json"
_ROOMS = (models, bundles, streams, server, data_files, remote)
ATTACKS = {number: attack for room in _ROOMS for number, attack in room.ATTACKS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("numbers", type=int, nargs="*", help="of findings; all")
    options = parser.parse_args()
    if unknown := set(options.numbers) - set(ATTACKS):
        parser.error(f"no attack on findings {sorted(unknown)}; there are {sorted(ATTACKS)}")
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"findings": {}}
    for number in options.numbers or sorted(ATTACKS):
        attack = ATTACKS[number]
        outcomes = {
            when: _attempt(number, root) for when, root in (("before", options.checkout), ("now", ROOT))
        }
        stored["findings"][str(number)] = {
            "finding": FINDINGS[number].name,
            "attack": (attack.__doc__ or "").strip(),
            **{when: {"succeeds": o.succeeds, "outcome": o.what} for when, o in outcomes.items()},
            "repeat": f"python -m benchmarks.findings CHECKOUT {number}",
        }
        stored["findings"] = dict(sorted(stored["findings"].items(), key=lambda item: int(item[0])))
        shown = [found["before"]["succeeds"] for found in stored["findings"].values()]
        gone = [not found["now"]["succeeds"] for found in stored["findings"].values()]
        stored["summary"] = (
            f"{len(shown)} of {len(FINDINGS)} findings attacked; {sum(shown)} succeed at 07f76d6, "
            f"{len(gone) - sum(gone)} succeed now"
        )
        RESULTS.write_text(json.dumps(stored, indent=2, ensure_ascii=True) + "\n")
    print(stored["summary"])


def _attempt(number: int, root: Path) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = ATTACKS[number](Box(root.resolve(), Path(folder)))
    what = outcome.what.replace(folder, "FOLDER").replace(str(root), "CHECKOUT")[:200]
    note(f"{number}: {outcome.succeeds} {what!r} ({time.monotonic() - start:.0f} s)")
    return Outcome(outcome.succeeds, what)


if __name__ == "__main__":
    main()
