"""The model without layers: trains in seconds, exports, is quantized, verifies, runs in any onnxruntime."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgesparse.config import ModelConfig, RunConfig, TrainingConfig
from edgesparse.training.pretrain import pretrain
from edgesparse.training.run_folder import Run, load_run
from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import NothingToQuantizeError, quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.engine import get_library_path
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.session import Session
from tests.support.built_once import BuiltOnce
from tests.support.synthetic import make_series
from tests.support.tolerances import ENGINES

SMALL = ModelConfig(layers=0, filters=4, dilations=(1, 4), thresholds=2, patch=8)


@pytest.fixture(scope="session")
def small_bundle(built_once: BuiltOnce) -> Bundle:
    """A small model of unequal series as a bundle; the run lies beside it."""

    def build(folder: Path) -> None:
        series = make_series(24, steps=300, unequal=True)
        run = train(series, RunConfig(model=SMALL), folder / "run", quiet=True)
        export_run(run, folder / "small.edgesparse", data=series)

    return open_bundle(built_once("small", build) / "small.edgesparse")


@pytest.fixture(scope="session")
def stretched_bundle(built_once: BuiltOnce) -> Bundle:
    """The same with windows stretched to one length and normalized by the training windows' spread."""

    def build(folder: Path) -> None:
        series = make_series(24, steps=300, unequal=True)
        model = replace(SMALL, stretched=256, fixed_scale=True, smoothed=1)
        run = train(series, RunConfig(model=model), folder / "run", quiet=True)
        export_run(run, folder / "stretched.edgesparse", data=series)

    return open_bundle(built_once("stretched", build) / "stretched.edgesparse")


@pytest.fixture
def small_run(small_bundle: Bundle) -> Run:
    return load_run(small_bundle.path.parent / "run")


def test_it_learns_and_says_how_well_without_each_series(small_run: Run) -> None:
    assert small_run.report["skip"]["left_out"]["value"] >= 0.9
    assert small_run.config.model.attention == "dense" and small_run.config.model.stem == 2
    assert small_run.report["heads"] == [] and small_run.report["budget"] is None
    assert small_run.report["parameters"] == 2 * (small_run.report["skip"]["features"] + 1)


@pytest.mark.parametrize("steps", [300, 211])
def test_plain_onnxruntime_outputs_what_torch_does(small_bundle: Bundle, small_run: Run, steps: int) -> None:
    """No library of ours: the functions in the file are all there is."""
    windows = make_series(5, steps=steps, seed=3).to_batch()
    expected = small_run.to_scores(small_run.model(torch.from_numpy(windows))).detach().numpy()
    plain = onnxruntime.InferenceSession(small_bundle.read(small_bundle.model_file("float32")))
    actual = plain.run(["scores"], {"window": windows})[0]
    np.testing.assert_allclose(actual, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
    np.testing.assert_allclose(
        Session(small_bundle, precision="float32").predict(windows),
        expected,
        rtol=ENGINES.relative,
        atol=ENGINES.absolute,
    )


@pytest.mark.parametrize("steps", [300, 211])
def test_stretched_windows_run_alike_everywhere(stretched_bundle: Bundle, steps: int) -> None:
    """With missing values, alone and in a batch of unequal windows."""
    run = load_run(stretched_bundle.path.parent / "run")
    windows = make_series(5, steps=steps, seed=3).to_batch()
    windows[1, :, steps // 2 :] = np.nan
    windows[2, 0, 20:40] = np.nan
    expected = run.to_scores(run.model(torch.from_numpy(windows))).detach().numpy()
    tolerance = {"rtol": ENGINES.relative, "atol": ENGINES.absolute}
    plain = onnxruntime.InferenceSession(stretched_bundle.read(stretched_bundle.model_file("float32")))
    np.testing.assert_allclose(plain.run(["scores"], {"window": windows})[0], expected, **tolerance)
    session = Session(stretched_bundle, precision="float32")
    np.testing.assert_allclose(session.predict(windows), expected, **tolerance)
    alone = session.predict(windows[1:2, :, : steps // 2])
    np.testing.assert_allclose(alone, expected[1:2], **tolerance)
    assert all(check.holds for check in verify(stretched_bundle))


def test_it_verifies_and_has_nothing_for_int8(
    small_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(check.holds for check in verify(small_bundle))
    with pytest.raises(NothingToQuantizeError, match="Use it in float32"):
        quantize_bundle(small_bundle)
    before = small_bundle.manifest
    assert command(["quantize", str(small_bundle.path)]) == 0
    assert "none: unchanged" in capsys.readouterr().out
    assert command(["quantize", str(small_bundle.path), "--json"]) == 0
    assert "no layer that int8" in json.loads(capsys.readouterr().out)["unchanged"]
    assert open_bundle(small_bundle.path).manifest == before


def test_its_head_is_updated_in_seconds(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Classes that trade places: thousands of features are as many unknowns as windows at most."""
    data = make_series(40, steps=300, unequal=True, seed=5)
    swapped = np.array([{"slow": "fast", "fast": "slow"}[str(label)] for label in np.asarray(data.labels)])
    write_csv(tmp_path / "new.csv", SeriesSet(data.series, data.channels, swapped, source="made"))
    out = tmp_path / "updated.edgesparse"
    start = time.monotonic()
    assert command(["update", str(small_bundle.path), str(tmp_path / "new.csv"), "-o", str(out)]) == 0
    assert time.monotonic() - start < 60
    capsys.readouterr()
    scores = Session(out).predict(data)
    assert (np.array(small_bundle.manifest["classes"])[scores.argmax(1)] == swapped).mean() >= 0.9


def test_manifest_and_card_say_that_nothing_attends(
    small_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small_bundle.manifest["attention"]["mode"] == "none"
    card = small_bundle.read("card.md").decode()
    assert "leave-one-out" in card and "dense attention" not in card
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert headings == ["## Intended use", "## Data by group", "## Limits", "## Unknown windows"]
    facts = small_bundle.manifest["input"]
    ends = {facts["shortest"], facts["longest"]}
    assert f"- Windows of {' to '.join(map(str, sorted(ends)))} steps were trained on;" in card
    assert command(["inspect", str(small_bundle.path)]) == 0
    told = capsys.readouterr().out
    assert "none: fixed features and a linear map" in told
    assert f"{' to '.join(map(str, sorted(ends)))} steps, at least" in told


def test_a_flat_window_and_one_without_values_are_scored(small_bundle: Bundle) -> None:
    windows = np.zeros((2, 2, 300), dtype=np.float32)
    windows[1] = np.nan
    windows[1, :, :20] = 1.0
    assert np.isfinite(Session(small_bundle, precision="float32").predict(windows)).all()


def test_numbers_are_predicted_too(tmp_path: Path) -> None:
    data = make_series(24, steps=120)
    slow = np.array([{"slow": 0.15, "fast": 0.4}[str(label)] for label in np.asarray(data.labels)])
    series = SeriesSet(data.series, data.channels, slow, source="made")
    config = RunConfig(model=SMALL, training=TrainingConfig(task="regression"))
    run = train(series, config, tmp_path / "run", quiet=True)
    assert run.report["skip"]["left_out"]["value"] < 0.05


def test_train_model_small_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_series(16, channels=1, steps=100)
    np.savez(tmp_path / "d.npz", X=np.stack(data.series), y=np.asarray(data.labels))
    arguments = ["train", str(tmp_path / "d.npz"), "--model", "small", *TINY, "-o", str(tmp_path / "run")]
    assert command(arguments) == 0
    printed = capsys.readouterr().out
    assert "accuracy, leave-one-out" in printed and "dense attention" not in printed
    assert command([*arguments, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skip"]["series"] == 16


TINY = ["--set", "model.filters=4", "--set", "model.dilations=[1]"]


@pytest.mark.parametrize(
    ("options", "has_layers"),
    [
        ([], False),
        (["--set", "training.seed=3"], False),
        (["--epochs", "1"], True),
        (["--budget", "0.5", "--set", "training.min_steps=2", "--set", "training.epochs=1"], True),
        (["--set", "model.causal=true", "--set", "training.epochs=1"], True),
        (["--set", "training.epochs=1"], True),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_the_small_model_is_the_default_unless_a_transformer_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], has_layers: bool
) -> None:
    data = make_series(16, channels=1, steps=100)
    np.savez(tmp_path / "d.npz", X=np.stack(data.series), y=np.asarray(data.labels))
    out = ["-o", str(tmp_path / "run"), "--json"]
    assert command(["train", str(tmp_path / "d.npz"), *TINY, *options, *out]) == 0
    report = json.loads(capsys.readouterr().out)
    assert bool(report["heads"]) is has_layers
    assert ("skip" in report) is not has_layers


def test_the_engine_of_a_model_without_attention_is_what_runs_its_features(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = get_library_path()
    session = Session(small_bundle, precision="float32")
    assert session.engine.startswith("native" if library else "function body")
    monkeypatch.setenv("EDGESPARSE_ENGINE", "body")
    assert Session(small_bundle, precision="float32").engine.startswith("function body")


def test_what_needs_layers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_series(8, steps=100)
    for settings, words in (
        (TrainingConfig(task="forecasting", horizon=4), "`stem` must be 1 for forecasting"),
        (TrainingConfig(consistency_weight=1.0), "`consistency_weight` must be 0"),
        (TrainingConfig(auxiliary_weight=1.0), "`auxiliary_weight` must be 0"),
    ):
        with pytest.raises(InputError, match=words):
            train(data, RunConfig(model=SMALL, training=settings), tmp_path / "run", quiet=True)
    with pytest.raises(InputError, match="`layers` must be at least 1 to pre-train"):
        pretrain(data, RunConfig(model=SMALL), tmp_path / "pre", quiet=True)
    assert command(["train", "d.csv", "--model", "tiny", "-o", str(tmp_path / "run")]) == 2
    assert "`--model` must be one of auto, small, full" in capsys.readouterr().err


def test_what_groups_change_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of four machines hums at a pitch of its own, and the class is the machine's, not its pitch's."""
    rng = np.random.default_rng(0)
    machine = np.repeat(np.arange(4), 8)
    x = np.sin(np.arange(100) * (0.3 + 0.4 * machine[:, None]) + rng.uniform(0, 6, (32, 1)))
    names = np.array(["P0", "P1", "P2", "P3"])[machine]
    np.savez(tmp_path / "d.npz", X=x[:, None], y=np.where(machine % 2, "b", "a"), group=names)
    arguments = ["train", str(tmp_path / "d.npz"), "--model", "small", *TINY, "-o", str(tmp_path / "run")]
    assert command(arguments) == 0
    assert "than on unseen groups" not in capsys.readouterr().out
    assert command([*arguments, "--overwrite", "--cross-validate", "group"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("accuracy, leave-one-out"))
    found = re.search(r"([\d.]+) points better than on unseen groups: others of the same group were", line)
    assert found is not None and float(found[1]) > 30, line
