"""Kernels return only what they wrote: hostile sizes must not hand out what lay in memory before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.kernels.isas import expected_isas
from tests.support.kernels.layer_models import Node, make_layer_model
from tests.support.kernels.models import open_session
from tests.support.paths import ROOT, source_environment

SECRET = b"TOKEN=0123456789abcdef0123456789"


def bank_without_features(name: str, filters: int, thresholds: int, columns: int = 16) -> Node:
    """A filter bank whose features are none, before a product whose output is not empty."""
    feeds: dict[str, np.ndarray] = {
        "window": np.ones((1, 1, 256), np.float32),
        "real": np.ones((1, 256), bool),
        "weight": np.zeros((1, filters, 1, 9), np.float32),
        "slope": np.zeros((1, filters), np.float32),
        "offset": np.zeros((1, filters, thresholds), np.float32),
        "center": np.zeros(0, np.float32),
        "spread": np.zeros(0, np.float32),
        "matrix": np.zeros((columns // 16, 0, 16, 4), np.int8),
        "scale": np.ones(columns, np.float32),
        "bias": np.full(columns, 7, np.float32),
    }
    return Node("bank", name, {"dilations": [1], "patch": 1, "before": 4}, feeds)


# The second is what files made before November 2026 call the operator.
@pytest.mark.parametrize("name", ["FilterBankLinear", "KernelBankLinear"])
@pytest.mark.parametrize(("filters", "thresholds"), [(0, 4), (5, 0), (0, 0)])
def test_a_filter_bank_without_features_returns_nothing_of_others(
    library: Path, name: str, filters: int, thresholds: int
) -> None:
    node = bank_without_features(name, filters, thresholds)
    session = open_session(library, make_layer_model(node, with_body=False))
    for _ in range(50):
        # What another request leaves behind, in buffers of the output's size.
        left = [np.frombuffer(SECRET * 512, np.float32).copy() for _ in range(50)]
        del left
        with pytest.raises(Exception, match="`matrix` must have a length that is a multiple of 16 from 16"):
            session.run(None, node.feeds)


def test_a_large_dilation_takes_no_more_memory_than_a_small_one(library: Path, tmp_path: Path) -> None:
    """Taps beyond the window meet zeros: 64 channels of 8 steps once took 64 zeros of 2^23 steps each."""
    steps, channels, filters = 8, 64, 4
    feeds = {
        "window": np.ones((1, channels, steps), np.float32),
        "real": np.ones((1, steps), bool),
        "weight": np.ones((1, filters, channels, 9), np.float32),
        "slope": np.ones((1, filters), np.float32),
        "offset": np.zeros((1, filters, 1), np.float32),
        "center": np.zeros(filters, np.float32),
        "spread": np.ones(filters, np.float32),
    }
    code = (
        "import resource, sys, numpy as np, onnx\n"
        "from tests.support.kernels.models import open_session\n"
        "session = open_session(sys.argv[1], onnx.load(sys.argv[2]))\n"
        "with np.load(sys.argv[3]) as feeds: output = session.run(None, dict(feeds))[0]\n"
        "assert output.shape == (1, 8, 4), output.shape\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for dilation in (8, 1 << 20):
        node = Node("bank", "FilterBank", {"dilations": [dilation], "patch": 1, "before": 8}, feeds)
        model, data = tmp_path / "model.onnx", tmp_path / "feeds.npz"
        model.write_bytes(make_layer_model(node, with_body=False).SerializeToString())
        np.savez(data, allow_pickle=False, **feeds)
        done = subprocess.run(
            [sys.executable, "-c", code, str(library), str(model), str(data)],
            env=source_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 200_000, peaks


@pytest.mark.parametrize("isa", sorted(expected_isas()))
def test_scores_that_are_no_numbers_are_the_same_on_every_instruction_set(
    kernels_build: Path, isa: str
) -> None:
    """Infinite and NaN inputs of every precision, each compared with the scalar reference in the program.

    The exponential of such a score once overflowed an integer, whose value differed by instruction set. Under
    sanitizers the same program runs in `make test-sanitize`.
    """
    done = subprocess.run(
        [kernels_build / "test_kernels"],
        env={**os.environ, "EDGESPARSE_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.fullmatch(rf"{isa}: 0 of \d+ failed", done.stdout.strip().splitlines()[-1])
    # The program must try such inputs at all.
    source = (ROOT / "runtime" / "kernels" / "tests" / "test_kernels.cc").read_text(encoding="utf-8")
    assert '"infinite", "NaN"' in source
