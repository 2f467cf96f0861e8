"""Training's threads must not spin on a core that other work holds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgesparse_runtime.cli.openmp import SPIN_COUNT

# Runs the verb up to its first refusal and says what the environment holds, and whether torch came too early.
SCRIPT = """
import os, sys
from edgesparse_runtime.cli import openmp
real = openmp.wait_briefly
def watched():
    assert "torch" not in sys.modules
    real()
    print(os.environ.get("GOMP_SPINCOUNT"))
    sys.exit(0)
import edgesparse_runtime.cli.building.train as verb
import edgesparse_runtime.cli.building.quickstart as other
verb.wait_briefly = other.wait_briefly = watched
from edgesparse_runtime.cli.app import run
run(sys.argv[1:])
"""


@pytest.mark.parametrize("words", [["train", "none.csv", "-o", "run"], ["quickstart", "-o", "demo"]])
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_threads_wait_briefly_unless_the_environment_says_otherwise(
    words: list[str], given: dict[str, str], found: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        env=environment | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == found, done.stderr
