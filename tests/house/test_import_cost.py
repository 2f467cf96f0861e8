"""What the runner brings along beyond numpy and onnxruntime: little. The times are in `make prove-target`."""

from __future__ import annotations

import json
import os

import pytest

from edgesparse_runtime.bundle.read import Bundle
from tests.support.processes import run_python

# Each of these costs a start-up more than the whole runner should.
HEAVY = {
    "asyncio",
    "cryptography",
    "difflib",
    "email",
    "http",
    "importlib.metadata",
    "multiprocessing",
    "rich",
    "socket",
    "ssl",
    "subprocess",
    "typer",
    "urllib.request",
}
# Bytes of our own source that `import edgesparse_runtime` may load; it was 130,092 at commit 07f76d6, and
# what bounds the cost of opening a model (`model_check/constants.py`) has added 10,000 since.
MOST_SOURCE = 140_000
MODULES = """
import json, os, sys
import numpy, onnxruntime
before = set(sys.modules)
import edgesparse_runtime
def new_modules():
    new = sorted(set(sys.modules) - before)
    ours = [name for name in new if name.startswith("edgesparse")]
    return [new, ours, sum(os.path.getsize(sys.modules[name].__file__) for name in ours)]
found = [new_modules()]
session = edgesparse_runtime.Session(sys.argv[1])
session.predict(numpy.zeros((1, session.channel_count, 600), dtype="float32"))
print(json.dumps([*found, new_modules()]))
"""
OPTIONS = """
import json
import onnxruntime
seen = []
class Watched(onnxruntime.InferenceSession):
    def __init__(self, path, options, **more):
        spinning = options.get_session_config_entry("session.intra_op.allow_spinning")
        seen.append([options.intra_op_num_threads, options.inter_op_num_threads, spinning])
        super().__init__(path, options, **more)
onnxruntime.InferenceSession = Watched
import sys
import edgesparse_runtime
edgesparse_runtime.Session(sys.argv[1])
print(json.dumps(seen[-1]))
"""


def test_imports_are_few_and_none_is_heavy(shared_bundle: Bundle) -> None:
    path = str(shared_bundle.path)
    (modules, ours, source_bytes), (_, used, _) = json.loads(run_python(MODULES, path))
    assert not HEAVY & set(modules)
    # Small files are many: what counts is how much is compiled and run.
    assert source_bytes <= MOST_SOURCE
    assert len(ours) <= 35
    assert len(modules) - len(ours) <= 70
    # Nothing is put off to the first prediction; archives, old bundles, twins and tensors load more.
    assert used == ours


def test_threads_follow_affinity_and_do_not_spin(shared_bundle: Bundle) -> None:
    path = str(shared_bundle.path)
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no CPU affinity")
    core = min(os.sched_getaffinity(0))
    assert json.loads(run_python(OPTIONS, path, prefix=("taskset", "-c", str(core)))) == [1, 1, "0"]
    everything = json.loads(run_python(OPTIONS, path))
    assert 1 <= everything[0] <= len(os.sched_getaffinity(0))
