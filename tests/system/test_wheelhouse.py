"""Wheels for a box without internet. Downloads are pip's; what is tried here is what we make of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.deploying import wheelhouse
from edgesparse_runtime.deploying.wheelhouse import gather, platform_tags, write_runner_wheel
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session

RUN = """
import sys, numpy
from edgesparse_runtime import Session
session = Session(sys.argv[1], precision="float32")
numpy.save(sys.argv[2], session.predict(numpy.load(sys.argv[3])))
print(session.engine.split(" (")[0])
"""


@pytest.mark.parametrize("tag", ["any", "linux_x86_64"])
def test_the_runner_s_wheel_installs_and_runs(
    tmp_path: Path, shared_bundle: Bundle, series: SeriesSet, tag: str
) -> None:
    wheel = write_runner_wheel(tmp_path, tag)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        has_library = "edgesparse_runtime/edgesparse_kernels.so" in archive.namelist()
    assert has_library == (tag != "any" and Session(shared_bundle).engine.startswith("native"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(tmp_path / "site"), str(wheel)], check=True, capture_output=True)
    np.save(tmp_path / "x.npy", series.to_batch())
    arguments = [str(shared_bundle.path), str(tmp_path / "scores.npy"), str(tmp_path / "x.npy")]
    # -S leaves the editable install out; numpy and onnxruntime are put back by hand.
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(np.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("native" if has_library else "function body")
    expected = Session(shared_bundle, precision="float32").predict(series)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, rtol=1e-4, atol=1e-5)


def test_pip_is_asked_for_the_box_s_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        place = Path(command[command.index("--dest") + 1])
        (place / "numpy-2.0-cp311-cp311-manylinux_2_28_aarch64.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheelhouse.subprocess, "run", run)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "older-1.0-py3-none-any.whl").touch()
    found = gather(tmp_path / "w", "linux_aarch64", glibc=31)
    (command,) = asked
    assert "manylinux_2_31_aarch64" in command
    assert "manylinux_2_34_aarch64" not in command
    assert command[-2:] == ["numpy>=1.26", "onnxruntime>=1.28"]
    # Only what this call gathered is told, and nothing else is touched.
    assert len(found.wheels) == 2
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == sorted(
        ["older-1.0-py3-none-any.whl", *found.wheels]
    )
    assert found.native is False
    assert any(name.endswith("py3-none-any.whl") for name in found.wheels)


def test_what_cannot_be_gathered(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be linux_x86_64 or linux_aarch64; got win_amd64"):
        gather(tmp_path, "win_amd64")
    for glibc in (-3, 16, 10**6):
        with pytest.raises(InputError, match=f"must be the N of glibc 2.N, 17 or more; got {glibc}"):
            gather(tmp_path, "linux_aarch64", glibc=glibc)
    for python in ("abc", "3.9", "3"):
        with pytest.raises(InputError, match=f"must be a version from 3.11 on; got {python}"):
            gather(tmp_path, "linux_aarch64", python=python)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must be a folder"):
        gather(tmp_path / "file", "linux_aarch64")
    with pytest.raises(InputError, match=r"must be a wheel edgesparse-\*\.whl"):
        gather(tmp_path, "linux_aarch64", runner=tmp_path / "x.whl")


def test_the_runner_s_wheel_asks_for_what_the_project_asks_for(tmp_path: Path) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert list(wheelhouse.BASE) == project["dependencies"]
    assert list(wheelhouse.COMMAND_LINE) == project["optional-dependencies"]["cli"]
    with zipfile.ZipFile(write_runner_wheel(tmp_path, "any")) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/METADATA"))
        metadata = archive.read(name).decode().splitlines()
    assert [f"Requires-Dist: {r}" for r in wheelhouse.BASE] == [
        m for m in metadata if m in {f"Requires-Dist: {r}" for r in wheelhouse.BASE}
    ]
    assert 'Requires-Dist: typer>=0.16; extra == "cli"' in metadata


def test_tags_go_from_the_newest_to_the_oldest() -> None:
    tags = platform_tags("aarch64", 28)
    assert tags[0] == "manylinux_2_28_aarch64"
    assert tags[-2:] == ["manylinux2014_aarch64", "linux_aarch64"]
