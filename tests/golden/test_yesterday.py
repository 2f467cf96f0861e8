"""Bundles and a run folder of commit 07f76d6 open, verify and predict what they predicted there.

The same bits where onnxruntime and the instruction sets are those of the machine that made them, and within
the engines' tolerance elsewhere. `from_07f76d6/make.py` made the files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from edgesparse.training.run_folder import load_run
from edgesparse_runtime.bundle.read import open_bundle
from edgesparse_runtime.evaluation.verify import verify
from tests.golden.predict import BUNDLES
from tests.support.paths import ROOT, source_environment
from tests.support.tolerances import ENGINES

MADE = Path(__file__).with_name("from_07f76d6")
MACHINE = json.loads((MADE / "machine.json").read_text())
PINS = {
    "scalar": {"EDGESPARSE_ISA": "scalar", "EDGESPARSE_ENGINE": ""},
    "avx2": {"EDGESPARSE_ISA": "avx2", "EDGESPARSE_ENGINE": ""},
    "body": {"EDGESPARSE_ENGINE": "body"},
}
REGISTER = """
import onnxruntime
from edgesparse_runtime.engine import register
print(register(onnxruntime.SessionOptions()))
"""

Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yesterday")
    with tarfile.open(MADE / "files.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected() -> Arrays:
    with np.load(MADE / "expected.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def tables() -> list[str]:
    """The instruction sets of this machine, as the native library names them when a pin is wrong."""
    environment = source_environment(EDGESPARSE_ISA="none", EDGESPARSE_ENGINE="")
    done = subprocess.run(
        [sys.executable, "-c", REGISTER], env=environment, capture_output=True, text=True, check=True
    )
    found = re.search(r"of this machine \((.*?)\)", done.stdout)
    return sorted(found.group(1).split(", ")) if found else []


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_opens_and_verifies(folder: Path, name: str) -> None:
    checks = verify(open_bundle(folder / f"{name}.edgesparse"))
    assert checks and all(check.holds for check in checks), [c for c in checks if not c.holds]


@pytest.mark.parametrize("engine", PINS)
def test_bundles_predict_what_they_predicted(
    folder: Path, expected: Arrays, tables: list[str], engine: str, tmp_path: Path
) -> None:
    if engine != "body" and engine not in tables:
        pytest.skip(f"this machine has no {engine}")
    command = [sys.executable, "-m", "tests.golden.predict", str(folder), str(tmp_path / "now.npz")]
    environment = source_environment(OMP_NUM_THREADS="1", **PINS[engine])
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "now.npz") as stored:
        now = dict(stored)
    outputs = [name for name in now if not name.startswith("engine/")]
    assert len(outputs) == 7
    is_same_kind = tables == MACHINE["tables"] and onnxruntime.__version__ == MACHINE["onnxruntime"]
    for name in outputs:
        wanted = expected[f"{engine}/{name}"]
        if name != "stream/float32":
            assert ("native" in str(now[f"engine/{name}"])) == (engine != "body")
        if is_same_kind:
            np.testing.assert_array_equal(now[name], wanted, err_msg=f"{engine}/{name}")
        elif name.endswith("float32"):
            np.testing.assert_allclose(now[name], wanted, rtol=ENGINES.relative, atol=10 * ENGINES.absolute)
        else:
            assert np.array_equal(now[name].argmax(-1), wanted.argmax(-1))


def test_a_run_folder_opens_and_predicts_what_its_bundle_predicts(folder: Path, expected: Arrays) -> None:
    run = load_run(folder / "run")
    window = torch.from_numpy(expected["input/classifier"])
    with torch.no_grad():
        scores = run.to_scores(run.model(window)).numpy()
    wanted = expected["body/classifier/float32"]
    np.testing.assert_allclose(scores, wanted, rtol=ENGINES.relative, atol=ENGINES.absolute)
