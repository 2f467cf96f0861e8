"""The built wheel in an empty environment: base dependencies only, and it runs a bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session
from tests.support.built_once import BuiltOnce
from tests.support.layout import PACKAGES, tracked_files
from tests.support.paths import ROOT
from tests.support.tolerances import ENGINES

SCRIPT = """
import importlib.util, json, sys
import onnxruntime
from edgesparse_runtime import Session, read_dataset
session = Session(sys.argv[1], precision="float32", threads=1)
present = [p for p in ("torch", "onnx", "onnxscript", "typer") if importlib.util.find_spec(p)]
scores = session.predict(read_dataset(sys.argv[2]))
print(json.dumps({"present": present, "engine": session.engine,
                  "onnxruntime": onnxruntime.__version__, "scores": scores.tolist()}))
"""


def run(arguments: list[object], folder: Path) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(
        list(map(str, arguments)), cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def data_files() -> list[str]:
    """What is no Python in the packages: schemas, pages, templates, markers of types."""
    tracked = [Path(name) for name in tracked_files(ROOT) if not name.endswith(".py")]
    folders = [Path(folder) for name, folder in PACKAGES.items() if name.startswith("edgesparse")]
    return [p.relative_to(f.parent).as_posix() for p in tracked for f in folders if f in p.parents]


@pytest.fixture(scope="module")
def wheel(built_once: BuiltOnce) -> Path:
    def build(folder: Path) -> None:
        run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder)

    (path,) = built_once("wheel", build).glob("*.whl")
    return path


@pytest.mark.parametrize("onnxruntime", ["newest", "1.28.0"])
def test_base_install_runs_a_bundle(
    wheel: Path, tmp_path: Path, shared_bundle: Bundle, series: SeriesSet, onnxruntime: str
) -> None:
    """On the newest and the oldest onnxruntime we support; both engines, and the library takes precedence."""
    np.savez(tmp_path / "x.npz", X=series.to_batch(), channels=series.channels)
    run([sys.executable, "-m", "venv", tmp_path / "empty"], tmp_path)
    python = tmp_path / "empty" / "bin" / "python"
    pins = ["-c", ROOT / "constraints.txt"] if onnxruntime == "newest" else [f"onnxruntime=={onnxruntime}"]
    run([python, "-m", "pip", "install", "-q", *pins, wheel], tmp_path)
    expected = Session(shared_bundle, precision="float32").predict(series)
    engines = []
    for engine in ("native", "body"):
        script = f"import os; os.environ['EDGESPARSE_ENGINE'] = {engine!r}\n{SCRIPT}"
        found = json.loads(run([python, "-c", script, shared_bundle.path, tmp_path / "x.npz"], tmp_path))
        assert found["present"] == []
        if onnxruntime != "newest":
            assert found["onnxruntime"] == onnxruntime
        np.testing.assert_allclose(found["scores"], expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
        engines.append(found["engine"].split(" (")[0])
    assert engines == ["native", "function body"]
    help_text = subprocess.run(
        [tmp_path / "empty" / "bin" / "edgesparse"], capture_output=True, text=True, check=False
    )
    assert help_text.returncode == 4
    assert "pip install 'edgesparse[cli]'" in help_text.stderr


def test_wheel_holds_the_three_packages_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"edgesparse", "edgesparse_export", "edgesparse_runtime"} <= tops
    assert not {"tests", "benchmarks", "examples"} & tops
    assert any(name.endswith("METADATA") for name in names)
    assert {"edgesparse_runtime/measure/report/page.html", "edgesparse_runtime/py.typed"} <= set(data_files())
    assert set(data_files()) <= set(names)
    # What a device downloads beyond numpy and onnxruntime.
    assert wheel.stat().st_size < 5 << 20
