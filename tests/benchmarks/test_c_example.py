"""examples/c built against onnxruntime's headers (ORT_INCLUDE_DIR) gives the bundle's scores."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.engine import get_library_path
from tests.support.kernels.build import find_tool
from tests.support.paths import ROOT
from tests.support.tolerances import ENGINES


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    headers = os.environ.get("ORT_INCLUDE_DIR", "")
    if not (Path(headers) / "onnxruntime_c_api.h").is_file():
        pytest.skip("set ORT_INCLUDE_DIR to the folder of onnxruntime_c_api.h; no Python package has it")
    cmake = find_tool("cmake")
    if cmake is None or find_tool("cc") is None:
        pytest.skip("no cmake or no C compiler")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*")
    folder: Path = tmp_path_factory.mktemp("c")
    given = [f"-DORT_INCLUDE_DIR={headers}", f"-DORT_LIBRARY={library}"]
    for words in (["-S", str(ROOT / "examples" / "c"), "-B", str(folder), *given], ["--build", str(folder)]):
        done = subprocess.run([cmake, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "predict"


@pytest.mark.parametrize("engine", ["kernels", "body"])
def test_the_c_example_gives_the_bundle_s_scores(program: Path, shared_bundle: Bundle, engine: str) -> None:
    library = "-" if engine == "body" else get_library_path()
    if library is None:
        pytest.skip("the operator library is not installed")
    golden = shared_bundle.golden()
    window = golden["windows"][0]
    done = subprocess.run(
        [program, shared_bundle.model_path("float32"), library, str(len(window))],
        input=" ".join(map(str, window.ravel())),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array(done.stdout.split(), dtype=np.float64)
    expected = golden["scores_float32"][0]
    np.testing.assert_allclose(found, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
