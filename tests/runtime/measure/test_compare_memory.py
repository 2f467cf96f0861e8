"""`compare` at 4,096 tokens: barely more memory than the larger of its two models needs by itself."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.processes import run_python
from tests.support.synthetic import tiny_config

TOKENS, STEPS_PER_TOKEN = 4096, 8
MOST_MB = 1024
OWN = """
import sys
import numpy as np
from edgesparse_runtime.machine.peak_memory import peak_memory
from edgesparse_runtime.session import Session
session = Session(sys.argv[1], precision="float32", threads=1)
window = np.random.default_rng(0).standard_normal((1, 2, int(sys.argv[2]))).astype(np.float32)
for _ in range(3):
    session.predict(window)
print(peak_memory())
"""
COMPARE = """
import sys
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.machine.peak_memory import peak_memory
code = run(["compare", *sys.argv[1:3], "--precision-a", "float32", "--precision-b", "float32",
            "--length", sys.argv[3], "--threads", "1", "--seconds", "0.1"])
print(peak_memory())
sys.exit(code)
"""


@pytest.mark.skipif("EDGESPARSE_LONG" not in os.environ, reason="long; set EDGESPARSE_LONG=1")
@pytest.mark.slow
def test_compare_needs_little_memory_over_its_models(
    tmp_path: Path, shared_bundle: Bundle, series: SeriesSet
) -> None:
    config = tiny_config(epochs=1, min_steps=1)
    few = series.take(range(8))
    dense = train(
        few,
        replace(config, model=replace(config.model, attention="dense", layers=1)),
        tmp_path / "run",
        quiet=True,
    )
    bundle, _ = export_run(dense, tmp_path / "dense.edgesparse", data=few)
    steps = TOKENS * STEPS_PER_TOKEN
    own = [float(run_python(OWN, path, steps)) for path in (shared_bundle.path, bundle.path)]
    both = float(run_python(COMPARE, shared_bundle.path, bundle.path, steps).splitlines()[-1])
    print(f"own {own[0]:.0f} and {own[1]:.0f} MB, compare {both:.0f} MB")
    assert both - max(own) < MOST_MB
