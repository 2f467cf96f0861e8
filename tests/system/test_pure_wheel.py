"""The wheel without kernels: what a build without a compiler gives, and what doctor says of it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.checking import doctor
from edgesparse_runtime.measure.environment import describe_environment
from tests.support.kernels.wheels import LIBRARY
from tests.support.paths import ROOT
from tests.support.tolerances import ENGINES

PREDICT = """
import sys, numpy
from edgesparse_runtime import Session
session = Session(sys.argv[1], precision="float32")
numpy.save(sys.argv[3], session.predict(numpy.load(sys.argv[2])))
print(session.engine)
"""


@pytest.mark.slow
def test_without_a_compiler_the_build_gives_the_pure_wheel_and_it_predicts(
    tmp_path: Path, shared_bundle: Bundle
) -> None:
    pip = [sys.executable, "-m", "pip"]
    # CMake would find the system's compiler, whatever the path is.
    hidden = os.environ | {"CXX": str(tmp_path / "no-compiler")}
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, env=hidden)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert LIBRARY not in archive.namelist()
    site, golden = tmp_path / "site", shared_bundle.golden()
    install = [*pip, "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    np.save(tmp_path / "x.npy", golden["windows"])
    arguments = [str(shared_bundle.path), str(tmp_path / "x.npy"), str(tmp_path / "scores.npy")]
    # -S leaves the editable install out; numpy and onnxruntime are put back by hand.
    path = os.pathsep.join([str(site), str(Path(np.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-S", "-c", PREDICT, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("function body (the operator library is not installed")
    found = np.load(tmp_path / "scores.npy")
    np.testing.assert_allclose(found, golden["scores_float32"], rtol=ENGINES.relative, atol=ENGINES.absolute)


@pytest.mark.parametrize("has_library", [True, False])
def test_doctor_says_what_is_missed_and_how_to_get_it(has_library: bool) -> None:
    found = describe_environment() | {"library": has_library}
    advice = [line for line in doctor._advice(found, {}) if "no native kernels" in line]  # type: ignore[arg-type]
    assert bool(advice) == (not has_library)
    if advice:
        assert "edgesparse-*-manylinux_*.whl" in advice[0]
        assert "pip install --force-reinstall --no-deps --no-binary edgesparse edgesparse" in advice[0]


@pytest.mark.parametrize("remark", ["", "The system refuses an instruction set."])
def test_doctor_passes_on_what_the_kernels_say_of_their_choice(remark: str) -> None:
    found = describe_environment() | {"engine_remark": remark}
    advice = doctor._advice(found, {})  # type: ignore[arg-type]
    assert ("The system refuses an instruction set." in advice) == bool(remark)
    assert "" not in advice
