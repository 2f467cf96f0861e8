"""`make examples`: runs every script in examples/ and compares what it prints with its expected table.

Prints the time that each took; exits 1 when one differs. A script whose packages are not installed is named
and left out. NAMES on the command line run those alone.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.processes import run

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Of a figure with a decimal point: processors round differently, and a decision may flip.
TOLERANCE = 0.02
# What a script ends with where it cannot run here.
MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)|(\S+) is not installed$")


@dataclass(frozen=True)
class Result:
    """What became of one script.

    Attributes:
        different: lines that differ from the table, or the error it ended in.
        missing: the package or program that is not installed; "" where it ran.
    """

    name: str
    seconds: float
    different: list[str]
    missing: str = ""

    def __str__(self) -> str:
        if self.missing:
            return f"{self.name:14} left out: {self.missing} is not installed"
        verdict = "as expected" if not self.different else "DIFFERS\n  " + "\n  ".join(self.different)
        return f"{self.name:14} {self.seconds:6.1f} s  {verdict}"


def run_example(script: Path) -> Result:
    """A script in a process and a folder of its own."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = run(sys.executable, script, cwd=folder)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        found = MISSING.match(last[0])
        return Result(script.stem, seconds, [] if found else last, (found[1] or found[2]) if found else "")
    return Result(script.stem, seconds, differences(done.stdout, expected_table(script)))


def expected_table(script: Path) -> str:
    """What a script is to print."""
    return (script.parent / "expected" / f"{script.stem}.txt").read_text(encoding="utf-8")


def differences(printed: str, expected: str) -> list[str]:
    """Lines that differ, a figure with a decimal point by more than the tolerance."""
    found, wanted = printed.splitlines(), expected.splitlines()
    if len(found) != len(wanted):
        return [f"{len(found)} lines, {len(wanted)} expected:", *found]
    return [f"{a!r}, expected {b!r}" for a, b in zip(found, wanted, strict=True) if not _is_same(a, b)]


def _is_same(line: str, expected: str) -> bool:
    words, wanted = line.split(), expected.split()
    return len(words) == len(wanted) and all(map(_is_near, words, wanted))


def _is_near(word: str, expected: str) -> bool:
    if word == expected or "." not in expected:
        return word == expected
    try:
        return abs(float(word.strip("[],")) - float(expected.strip("[],"))) <= TOLERANCE + 1e-9
    except ValueError:
        return False


def main() -> int:
    """Runs what is named, or all."""
    chosen = [script for script in EXAMPLES if script.stem in sys.argv[1:] or not sys.argv[1:]]
    results = []
    for script in chosen:
        results.append(run_example(script))
        print(results[-1], flush=True)
    print(f"{'total':14} {sum(result.seconds for result in results):6.1f} s")
    return int(not results or any(result.different for result in results))


if __name__ == "__main__":
    sys.exit(main())
