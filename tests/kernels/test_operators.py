"""Every operator called at random on every instruction set, by `runtime/kernels/tests/fuzz_operators.cc`.

What an operator returns must not depend on memory that it did not write, on threads, or on where the
output lies.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.kernels.isas import expected_isas

CALLS = 3000


def call_operators(build: Path, isa: str, *options: str, calls: int = CALLS) -> dict[str, str]:
    """Runs the program pinned to `isa`; what it prints, by name."""
    done = subprocess.run(
        [build / "fuzz_operators", *options, build / "edgesparse_kernels.so", str(calls)],
        env={**os.environ, "EDGESPARSE_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = re.fullmatch(
        r"(?P<isa>\w+): (?P<ran>\d+) ran, (?P<refused>\d+) refused, 0 failed; "
        r"outputs \w+, equal everywhere (?P<equal>\w+)\n",
        done.stdout,
    )
    assert found is not None, done.stdout
    assert found["isa"] == isa
    return found.groupdict()


@pytest.mark.parametrize("isa", sorted(expected_isas()))
def test_no_output_depends_on_memory_that_was_not_written(kernels_build: Path, isa: str) -> None:
    """Hostile calls too: both fills give the same bits, or the same refusal."""
    found = call_operators(kernels_build, isa)
    assert int(found["ran"]) > CALLS // 2
    assert int(found["refused"]) > CALLS // 10


def test_integer_operators_give_the_same_bits_on_every_instruction_set(kernels_build: Path) -> None:
    found = {isa: call_operators(kernels_build, isa, "--valid") for isa in expected_isas()}
    assert all(int(x["ran"]) == CALLS for x in found.values())
    assert len({x["equal"] for x in found.values()}) == 1, found
