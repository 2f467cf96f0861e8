"""A process that opens a model and then forks, as a preloading server does."""

from __future__ import annotations

import os

import pytest

from edgesparse_runtime.bundle.read import Bundle
from tests.support.processes import run_python

# The child predicts, frees what it inherited, opens another model and ends; an alarm ends a hang.
SCRIPT = """
import os, signal, sys
import numpy as np
from edgesparse_runtime import Session

path, threads = sys.argv[1], int(sys.argv[2])
session = Session(path, precision="float32", threads=threads)
window = np.random.default_rng(0).standard_normal((3, 2, 200)).astype(np.float32)
expected = session.predict(window)
child = os.fork()
if child == 0:
    signal.alarm(60)
    same = np.array_equal(session.predict(window), expected)
    del session
    again = Session(path, precision="float32", threads=threads)
    sys.exit(0 if same and np.array_equal(again.predict(window), expected) else 3)
_, state = os.waitpid(child, 0)
ended = "hung" if os.WIFSIGNALED(state) else os.WEXITSTATUS(state)
print(ended, np.array_equal(session.predict(window), expected))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_predicts_and_ends(shared_bundle: Bundle, threads: int) -> None:
    assert run_python(SCRIPT, shared_bundle.path, threads) == "0 True\n"
