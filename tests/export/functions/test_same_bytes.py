"""Two exports of one model are the same file, whatever order Python's sets have in a process."""

from __future__ import annotations

import os
import subprocess
import sys

PRINT_HASH = """
import hashlib, onnx_ir as ir
from edgesparse_export.functions.layers import bodies
names = set("Linear LinearSplit FeedForward FilterBankLinear".split())
names |= {"BlockScores", "ValueConvolution", "SparseAttention"}
texts = [ir.serde.serialize_function(f).SerializeToString() for f in bodies(names)]
print(len(texts), hashlib.sha256(b"".join(texts)).hexdigest())
"""


def test_the_order_of_sets_does_not_reach_the_file() -> None:
    found = [_printed(seed) for seed in ("0", "1")]
    assert found[0].startswith("7 ")
    assert len(set(found)) == 1


def _printed(seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", PRINT_HASH]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
