"""Where results lie, and whether this run is a shortened one."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.paths import ROOT

QUICK = os.environ.get("QUICK") == "1"
"""The shortened form of a proof: under five minutes."""
SCRATCH = ROOT / "bench-results"
"""Results of shortened forms and of parts; not committed."""
COMMITTED = ROOT / "benchmarks" / "results"


def report_path(name: str) -> Path:
    """Where a proof's report lies: committed when it is whole, scratch when it is shortened."""
    return (SCRATCH if QUICK else COMMITTED) / f"{name}.json"
