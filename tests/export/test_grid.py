"""Window, stride, period and units travel from the training file to the bundle; verbs cut by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgesparse.training.run_folder import Run, load_run
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from tests.support.synthetic import tiny_config

WINDOW, STRIDE, STEPS = 200, 100, 600
# Whole windows of a recording.
PER_RECORDING = (STEPS - WINDOW) // STRIDE + 1


def write_recordings(path: Path, *, period: float = 0.01, count: int = 6) -> Path:
    """Recordings of two machines, two classes that differ in frequency, as a table with times."""
    rng = np.random.default_rng(0)
    lines = ["time,recording,machine,vibration (mm/s),current (A),label"]
    for i in range(count):
        speed, label = ((0.15, "slow"), (0.4, "fast"))[i % 2]
        for k in range(STEPS):
            wave = np.sin(speed * k + i) + 0.2 * rng.standard_normal(2)
            lines.append(f"{k * period:.4f},r{i},m{i % 2},{wave[0]:.4f},{wave[1]:.4f},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("data") / "pump.csv")


@pytest.fixture(scope="module")
def windowed_run(recordings: Path) -> Run:
    options = ReadOptions(series_column="recording", window=WINDOW, stride=STRIDE)
    data = read_dataset(recordings, options)
    assert len(data) == 6 * PER_RECORDING
    return train(data, tiny_config(epochs=1), recordings.parent / "run", quiet=True)


def test_the_run_keeps_how_its_data_were_cut(windowed_run: Run) -> None:
    facts = load_run(windowed_run.path).facts
    assert (facts.window, facts.stride, facts.period) == (WINDOW, STRIDE, pytest.approx(0.01))
    assert len(facts.units) == len(facts.typical) == len(facts.channels) == 2
    roles = {role["column"]: role["role"] for role in facts.roles}
    assert roles["label"] == "label" and roles["time"] == "time" and roles["recording"] == "series"


def test_export_and_quantize_cut_recordings_as_training_did(
    windowed_run: Run, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, _ = export_run(windowed_run, tmp_path / "pump.edgesparse", data=recordings)
    facts = bundle.manifest["input"]
    assert (facts["window"], facts["stride"], facts["period"]) == (WINDOW, STRIDE, pytest.approx(0.01))
    assert "typical" in bundle.manifest["channels"][0]
    assert bundle.golden()["windows"].shape[1:] == (2, WINDOW)
    quantize = ["quantize", str(bundle.path), "--max-drop", "0.9", "--json", "--data"]
    assert command([*quantize, str(recordings)]) == 0
    assert json.loads(capsys.readouterr().out)["series"] == 6 * PER_RECORDING


def test_data_of_another_rate_do_not_gate(
    windowed_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, _ = export_run(windowed_run.path, str(tmp_path / "pump.edgesparse"))
    slower = write_recordings(tmp_path / "slower.csv", period=0.02)
    assert command(["quantize", str(bundle.path), "--data", str(slower)]) == 2
    assert "0.02" in capsys.readouterr().err
