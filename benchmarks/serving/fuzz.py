"""Mutated input: one atheris process over one parser."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.serving.clients import command

SECONDS, MEGABYTES = 1, 1024


def mutate(kind: str, runs: int, seed: int) -> dict[str, Any]:
    """One fuzzing process of its own over one parser."""
    with TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        made = command([sys.executable, "-m", "benchmarks.serving.fuzz_target", "seeds", kind, str(corpus)])
        start = time.perf_counter()
        result = command(
            [
                *(sys.executable, "-m", "benchmarks.serving.fuzz_target", kind, str(corpus)),
                *(f"-runs={runs}", f"-seed={seed}", f"-timeout={SECONDS}", "-max_len=8192"),
                *(f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={folder}/", "-print_final_stats=1"),
            ]
        )
        seconds = time.perf_counter() - start
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", result.stderr))
    return {
        "rc": made.returncode or result.returncode,
        "runs": int(stats.get("number_of_executed_units", 0)),
        "slowest_s": int(stats.get("slowest_unit_time_sec", -1)),
        "peak_mb": int(stats.get("peak_rss_mb", -1)),
        # Inputs that reached code which none before had: without any, the parser was not watched.
        "new_inputs": int(stats.get("new_units_added", 0)),
        "seconds": seconds,
        "output": result.stderr[-1500:] if result.returncode else "",
    }
