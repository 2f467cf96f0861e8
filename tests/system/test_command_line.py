"""The command line as a user meets it: every verb, every exit code, one line for each bad input."""

from __future__ import annotations

import csv
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.cli.app import VERBS
from edgesparse_runtime.cli.building.quickstart import BEGUN
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.processes import CLI, check_one_line, edgesparse, start
from tests.support.synthetic import make_series


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pump_TRAIN.csv"
    write_csv(path, make_series(24, steps=1200))
    return path


def test_an_interrupted_quickstart_can_be_begun_again(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    process = start(*CLI, "quickstart", "-o", out, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not (out.is_dir() and any(out.iterdir())) and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert any(out.iterdir())
    # The same refusal as for a whole one: what --overwrite takes away is known as ours.
    check_one_line(edgesparse("quickstart", "-o", out), 2, "Add --overwrite")
    (out / "note.txt").touch()
    (out / BEGUN).unlink()
    (out / "runs").mkdir(exist_ok=True)
    (out / "runs").rmdir()
    check_one_line(edgesparse("quickstart", "-o", out, "--overwrite"), 2, "was not made by quickstart")


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str) -> None:
    result = edgesparse(verb, "--help")
    assert result.returncode == 0
    assert f"Example: edgesparse {verb}" in result.stdout
    assert result.stdout.count("--json") >= 1


def test_the_path_of_the_readme(tmp_path: Path, table: Path) -> None:
    """Every verb in turn, with JSON where it matters."""
    settings = ["--set", "model.width=16", "--set", "model.num_heads=2", "--set", "model.filters=8"]
    train = edgesparse(
        "train", table, "-o", tmp_path / "runs" / "pump", "--epochs", 8, "--budget", 0.35, *settings, "--json"
    )
    assert train.returncode == 0, train.stderr
    report = json.loads(train.stdout)
    assert report["schema"] == "edgesparse.train/1"
    assert report["compute"]["attention_share"] <= 0.35
    assert "Training: " in train.stderr

    bundle = tmp_path / "pump.edgesparse"
    export = edgesparse("export", tmp_path / "runs" / "pump", "-o", bundle, "--data", table, "--json")
    assert export.returncode == 0, export.stderr
    assert json.loads(export.stdout)["parity"]["holds"] is True

    quantize = edgesparse("quantize", bundle, "--data", table, "--max-drop", "0.2")
    assert quantize.returncode == 0, quantize.stderr
    assert "decisions flipped" in quantize.stdout

    verify = edgesparse("verify", bundle)
    assert verify.returncode == 0, verify.stderr
    assert "int8 scores" in verify.stdout

    evaluate = edgesparse("evaluate", bundle, table, "--robustness", "--json")
    metrics = json.loads(evaluate.stdout)["metrics"]
    assert metrics["accuracy"]["n"] == 24
    assert metrics["accuracy"]["low"] <= metrics["accuracy"]["value"] <= metrics["accuracy"]["high"]

    run = edgesparse("run", bundle, table, "-o", tmp_path / "predictions.csv")
    assert run.returncode == 0, run.stderr
    with (tmp_path / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24
    assert float(rows[0]["score_fast"]) + float(rows[0]["score_slow"]) == pytest.approx(1.0, abs=1e-4)

    profile = json.loads(edgesparse("profile", bundle, "--seconds", 0.2, "--threads", 1, "--json").stdout)
    assert 0 < profile["profile"]["p50"] <= profile["profile"]["p99"] <= profile["profile"]["max"]
    assert profile["profile"]["memory_peak"] >= profile["profile"]["memory_before"] > 10

    compare = edgesparse("compare", bundle, bundle, "--precision-a", "float32", "--seconds", 0.2, "--json")
    comparison = json.loads(compare.stdout)["comparison"]
    assert comparison["low"] <= comparison["ratio"] <= comparison["high"]
    assert comparison["compared"] == 200
    assert 0.9 < comparison["equal"] <= 1.0

    inspect = edgesparse("inspect", bundle)
    assert "current, voltage" in inspect.stdout


def test_doctor_knows_this_machine() -> None:
    found = json.loads(edgesparse("doctor", "--json").stdout)
    assert found["environment"]["telemetry"] == "off"
    assert found["environment"]["versions"]["numpy"] == np.__version__


def test_gates_exit_3(shared_bundle: Bundle, tmp_path: Path, series: SeriesSet) -> None:
    write_csv(tmp_path / "x.csv", series)
    result = edgesparse("evaluate", shared_bundle.path, tmp_path / "x.csv", "--fail-if", "accuracy<1.01")
    assert result.returncode == 3
    assert "gate failed: accuracy" in result.stderr
    result = edgesparse("profile", shared_bundle.path, "--seconds", 0.1, "--fail-if", "p99>0.0001ms")
    assert result.returncode == 3
    both = ("compare", shared_bundle.path, shared_bundle.path, "--seconds", 0.05)
    for condition, code in (("ratio<99", 3), ("equal<100%", 0), ("ratio<0.001", 0)):
        result = edgesparse(*both, "--fail-if", condition)
        assert result.returncode == code, result.stderr
        assert "of decisions equal" in result.stdout
    result = edgesparse("evaluate", shared_bundle.path, tmp_path / "x.csv", "--fail-if", "acuracy<1")
    assert result.returncode == 2
    assert "Did you mean accuracy?" in result.stderr


def test_unlabeled_data_are_predicted(shared_bundle: Bundle, tmp_path: Path, series: SeriesSet) -> None:
    write_csv(tmp_path / "x.csv", SeriesSet(series.series, series.channels))
    result = edgesparse("run", shared_bundle.path, tmp_path / "x.csv", "--json")
    assert len(json.loads(result.stdout)["predictions"]) == len(series)
    check_one_line(
        edgesparse("evaluate", shared_bundle.path, tmp_path / "x.csv"), 2, "must have labels to evaluate on"
    )


def test_missing_files(shared_bundle: Bundle, tmp_path: Path, table: Path) -> None:
    nothing = tmp_path / "none"
    out = tmp_path / "out.edgesparse"
    check_one_line(edgesparse("train", nothing, "-o", tmp_path / "r"), 2, "no such file or folder")
    check_one_line(edgesparse("export", nothing, "-o", out), 2, "must be a run folder")
    check_one_line(edgesparse("run", nothing, table), 2, "no such file or folder")
    check_one_line(edgesparse("run", shared_bundle.path, f"{nothing}.csv"), 2, "no such file or folder")
    check_one_line(edgesparse("profile", nothing), 2, "no such file or folder")
    check_one_line(edgesparse("quantize", nothing), 2, "no such file or folder")
    assert list(tmp_path.iterdir()) == []


def test_bad_data(shared_bundle: Bundle, tmp_path: Path) -> None:
    empty, wrong, holes = tmp_path / "empty.csv", tmp_path / "wrong.csv", tmp_path / "holes.csv"
    empty.write_text("")
    write_csv(wrong, make_series(3, channels=1, steps=50))
    data = make_series(3)
    data.series[1][:, 100:200] = np.nan
    write_csv(holes, data)
    out = tmp_path / "predictions.csv"
    for verb in (["run", shared_bundle.path, empty, "-o", out], ["train", empty, "-o", tmp_path / "r"]):
        check_one_line(edgesparse(*verb), 2, "must hold data; it is empty.")
    check_one_line(
        edgesparse("run", shared_bundle.path, holes, wrong, "-o", out),
        2,
        "2 channel(s) current, voltage; got 1",
    )
    assert not out.exists()
    assert not (tmp_path / "r").exists()
    # NaN in the data is a missing value, not an error.
    assert edgesparse("run", shared_bundle.path, holes, "-o", out).returncode == 0
    assert len(out.read_text().splitlines()) == 4


def test_a_text_file_called_onnx(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("not a model")
    check_one_line(edgesparse("run", path, table), 2, "must be an ONNX model")
    check_one_line(edgesparse("profile", path), 2, "must be an ONNX model")
    check_one_line(edgesparse("export", path, "-o", tmp_path / "x.edgesparse"), 2, "must be a run folder")


def test_wrong_places_to_write(shared_bundle: Bundle, tmp_path: Path, tiny_run: object) -> None:
    run = tiny_run.path  # type: ignore[attr-defined]
    check_one_line(edgesparse("export", run, "-o", tmp_path / "x"), 2, "must end in .edgesparse")
    check_one_line(edgesparse("train", tmp_path / "x.csv", "-o", run), 2, "holds a finished run. Add")
    again = edgesparse("train", tmp_path / "x.csv", "-o", run, "--resume")
    check_one_line(again, 2, "holds a finished run: there is nothing to resume")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    check_one_line(
        edgesparse("quickstart", "-o", tmp_path / "mine", "--overwrite"), 2, "was not made by quickstart"
    )
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_damaged_bundle(shared_bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "x.edgesparse"
    shutil.copytree(shared_bundle.path, folder)
    (folder / "model.onnx").write_bytes(b"truncated")
    for verb in ("verify", "inspect", "profile", "quantize"):
        check_one_line(edgesparse(verb, folder), 2, "model.onnx does not match its hash")


def test_unknown_words() -> None:
    check_one_line(edgesparse("exprot"), 2, "Did you mean `edgesparse export`?")
    check_one_line(edgesparse("profile", "--bogus", "x"), 2, "No such option: --bogus")
    assert edgesparse().returncode in (0, 2)
    assert edgesparse("--version").stdout.startswith("edgesparse ")


def test_bad_settings(table: Path, tmp_path: Path) -> None:
    result = edgesparse("train", table, "-o", tmp_path / "r", "--set", "training.epoch=3")
    check_one_line(result, 2, "Did you mean `epochs`?")
    check_one_line(edgesparse("train", table, "-o", tmp_path / "r", "--budget", "7"), 2, "`budget` must be")
    check_one_line(edgesparse("train", table, "-o", tmp_path / "r", "--preset", "big"), 2, "tiny, small")
    assert not (tmp_path / "r").exists()


def test_ctrl_c_leaves_a_run_that_resumes(tmp_path: Path, table: Path) -> None:
    arguments = ["train", table, "-o", tmp_path / "r", "--epochs", 400, "--set", "model.width=16"]
    process = start(*CLI, *arguments)
    end = time.monotonic() + 120
    while not (tmp_path / "r" / "checkpoint.safetensors").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "add --resume to continue" in errors
    assert "Traceback" not in errors
    check_one_line(edgesparse(*arguments), 2, "holds an unfinished run. Add --resume")
    # Another number of epochs is another run: the same configuration is asked for, not guessed.
    other = edgesparse(*arguments, "--set", "training.epochs=3", "--resume")
    assert other.returncode == 2
    assert "Resume with the same configuration" in other.stderr
