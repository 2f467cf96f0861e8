"""Clients that no one here wrote, against a real server: `tritonclient[http]` and schemathesis."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.serving.bundles import Pair
from tests.support.running import ENVIRONMENT, ROOT, running

SCHEMATHESIS_CONFIG = ROOT / "tests" / "runtime" / "serving" / "schemathesis.toml"


def command(arguments: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it prints."""
    return subprocess.run(
        arguments, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, errors="replace", check=False
    )


def tritonclient() -> dict[str, Any]:
    """The tests of the foreign client, each against a real server."""
    result = command(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/runtime/serving/test_tritonclient.py"]
    )
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", result.stdout)}
    return {"rc": result.returncode, **counts}


def schemathesis(pair: Pair, cases: int, examples: int) -> dict[str, Any]:
    """Rounds with other seeds until at least `cases` were made.

    Args:
        examples: of each operation, in a round.
    """
    found: dict[str, Any] = {"cases": 0, "passed": 0, "rounds": 0, "output": ""}
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    with running(f"pump={pair.bundles[0].path}") as server, TemporaryDirectory() as folder:
        while found["cases"] < cases and not found["output"]:
            found["rounds"] += 1
            result = command(
                [
                    *(sys.executable, "-c", program),
                    *("--config-file", str(SCHEMATHESIS_CONFIG)),
                    *("run", f"{server.url}/openapi.json", "--seed", str(found["rounds"])),
                    *("--max-examples", str(examples), "--no-color"),
                ],
                Path(folder),
            )
            counts = re.search(r"(\d+) generated, (\d+) passed", result.stdout)
            if result.returncode or counts is None:
                found["output"] = result.stdout[-2000:] + result.stderr[-500:]
                break
            found["cases"] += int(counts[1])
            found["passed"] += int(counts[2])
    return found
