"""The first hour of three people, from raw files to the last verb: what stopped or misled them does not.

A line engineer with a folder of a logger's files, a data scientist in Python, and someone with a slow encoder
of Hugging Face. `STUMBLES` says of each row of the table of their stumbles where it is answered.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import edgesparse
from edgesparse import ModelConfig, RunConfig, TrainingConfig
from edgesparse_export import export_run
from edgesparse_runtime import Session
from edgesparse_runtime.errors import InputError
from tests.support.paths import ROOT
from tests.support.processes import check_one_line, run_python
from tests.support.processes import edgesparse as call

# Minutes each.
is_long = pytest.mark.skipif("EDGESPARSE_LONG" not in os.environ, reason="a long path; set EDGESPARSE_LONG=1")
HEADER = "時刻,振動(m/s2),電流(A),温度(℃)"
VIBRATION = "振動(m/s2)"
SMALL = ("--set", "model.layers=1", "--set", "model.width=16", "--set", "model.filters=16")
HERE = "tests/system/test_newcomers.py::"
# What stopped or misled the three, and the test that it is gone or that answers it.
STUMBLES = {
    "verbs look at whole recordings instead of the model's window": (
        "tests/export/test_grid.py::test_export_and_quantize_cut_recordings_as_training_did"
    ),
    "dead, missing and swapped sensors are normal": (
        "tests/system/test_answers.py::test_a_dead_sensor_ends_in_exit_code_3"
    ),
    "drop-in calibration stops at a smaller last batch": (
        "tests/edgesparse/dropin/test_calibration.py::test_batches_may_be_of_unequal_size"
    ),
    "a stream of half the rate is scored": (
        "tests/runtime/stream/test_live.py::test_another_sampling_rate_is_refused"
    ),
    "intervals count windows, no figure per machine": (
        "tests/runtime/evaluation/test_groups.py::test_windows_of_one_machine_are_not_independent"
    ),
    "a folder, Shift-JIS and a column of another language are refused without a cure": (
        f"{HERE}test_line_engineer"
    ),
    "evaluate without --window measures something else": f"{HERE}test_line_engineer",
    "no estimator with fit and predict": f"{HERE}test_data_scientist",
    "density falls beyond the calibrated length": (
        "tests/edgesparse/dropin/test_calibration.py::test_density_does_not_fall_at_longer_inputs"
    ),
    "compare needs 22 GB": (
        "tests/runtime/measure/test_compare_memory.py::test_compare_needs_little_memory_over_its_models"
    ),
    "comparison with a dense drop-in model goes in a circle": (
        "tests/edgesparse/dropin/test_bundle_inputs.py::test_without_a_dense_model_the_cure_is_named"
    ),
    "a gap in a table closes up": (
        "tests/runtime/data/test_grid.py::test_a_short_gap_is_filled_and_a_long_one_restarts"
    ),
    "recordings without a series column are one": (
        "tests/runtime/data/test_grid.py::test_glued_recordings_are_noticed"
    ),
    "refusals name cures that fail": (
        "tests/edgesparse/dropin/test_families.py"
        "::test_a_family_that_computes_its_own_attention_is_refused_with_a_cure_that_works"
    ),
    "training and stream read other times": (
        "tests/runtime/stream/test_live.py::test_times_are_read_as_in_files"
    ),
    "answers name neither series nor time": ("tests/system/test_answers.py::test_names_and_times_come_back"),
    "the machine held out has no name": (
        "tests/edgesparse/training/test_cross_fit.py::test_refit_trains_on_all_and_keeps_what_was_measured"
    ),
    "Python gives tracebacks for lists and paths": (
        "tests/edgesparse/test_inputs.py::test_other_data_end_in_one_sentence"
    ),
    "accuracy on training data comes first": (
        "tests/edgesparse/training/test_cross_fit.py::test_command_line_says_what_is_known_of_new_machines"
    ),
    "the page of a profile has no verdict": (
        "tests/runtime/measure/test_profile.py::test_the_verdict_on_the_deadline_comes_first"
    ),
    "token types and long texts": (
        "tests/edgesparse/dropin/test_bundle_inputs.py"
        "::test_texts_beyond_the_positions_are_refused_in_one_sentence"
    ),
    "units are lost, --window takes no time": f"{HERE}test_line_engineer",
    "no recipe for the library of another processor": (
        "tests/system/test_wheelhouse.py::test_pip_is_asked_for_the_box_s_wheels"
    ),
    "one bad cell loses the line": (
        "tests/runtime/stream/test_live.py::test_a_bad_cell_loses_that_cell_alone"
    ),
    "Windows is not mentioned": f"{HERE}test_the_readme_names_the_systems",
}


def test_every_stumble_has_its_answer() -> None:
    """Each row of the table names a test that pytest collects."""
    assert len(STUMBLES) == 25
    missing = [node for node in STUMBLES.values() if not is_test(node)]
    assert not missing, f"no such tests: {missing}"
    assert not is_test(f"{HERE}test_nothing") and not is_test("tests/test_nowhere.py::test_nothing")


def is_test(node: str) -> bool:
    """A function of a test file by its full name, defined at the top, as pytest finds it."""
    path, _, name = node.partition("::")
    if not (ROOT / path).is_file() or not re.fullmatch(r"test_\w+\.py", Path(path).name):
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return name.startswith("test_") and any(
        isinstance(item, ast.FunctionDef) and item.name == name for item in tree.body
    )


def test_the_readme_names_the_systems() -> None:
    assert "You need Linux" in (ROOT / "README.md").read_text(encoding="utf-8")


def record(folder: Path) -> None:
    """Two recordings of three machines as their logger leaves them; the third writes Shift-JIS."""
    for m, machine in enumerate(("P1", "P2", "P3")):
        for k, kind in enumerate(("normal", "bearing")):
            rng = np.random.default_rng(10 * m + k)
            time = 0.01 * np.arange(1500)
            vibration = np.sin(2 * np.pi * (8 if k else 3) * time) + 0.2 * rng.standard_normal(1500)
            current = 5 + 0.3 * np.sin(7 * time) + 0.05 * rng.standard_normal(1500)
            warmth = 40 + m + 0.1 * rng.standard_normal(1500)
            rows = [HEADER]
            for i, t in enumerate(time.tolist()):
                stamp = (datetime(2026, 11, 2, 8) + timedelta(seconds=t)).strftime("%Y/%m/%d %H:%M:%S.%f")
                cell = "" if rng.random() < 0.01 else f"{current[i]:.3f}"
                rows.append(f"{stamp[:-4]},{vibration[i]:.3f},{cell},{warmth[i]:.1f}")
            path = folder / kind / f"{machine}_{k}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes("\n".join([*rows, ""]).encode("cp932" if machine == "P3" else "utf-8-sig"))


def join(files: list[Path], out: Path) -> None:
    """The one script that is needed: series, machine and label from the names of files and folders."""
    with out.open("w", encoding="utf-8") as stream:
        print("series,machine,label," + HEADER, file=stream)
        for path in files:
            for row in path.read_text(encoding="utf-8-sig").splitlines()[1:]:
                print(f"{path.stem},{path.stem[:2]},{path.parent.name},{row}", file=stream)


@is_long
@pytest.mark.slow
def test_line_engineer(tmp_path: Path) -> None:
    raw, bundle, everything = tmp_path / "raw", tmp_path / "pump.edgesparse", tmp_path / "all.csv"
    record(raw)
    out = ("-o", tmp_path / "run")
    check_one_line(call("train", raw, *out), 2, "If it is CP932: iconv")
    foreign = raw / "normal" / "P3_0.csv"
    refused = call("train", foreign, *out)
    check_one_line(refused, 2, "If it is CP932: iconv -f CP932 -t UTF-8")
    for path in raw.glob("*/P3_*.csv"):
        path.write_text(path.read_text(encoding="cp932"), encoding="utf-8")
    files = sorted(raw.glob("*/*.csv"))
    join(files, everything)
    join([path for path in files if path.stem.startswith("P3")], tmp_path / "P3.csv")

    options = ("--window", "1s", "--cross-validate", "machine", "--epochs", 6, *SMALL)
    done = call("train", everything, *out, *options, "--set", "training.batch_size=8")
    assert done.returncode == 0, done.stderr
    assert "時刻 = time" in done.stderr and "machine = group (named)" in done.stderr
    first = next(line for line in done.stdout.splitlines() if line.startswith("accuracy"))
    assert first.startswith("accuracy, unseen groups") and "on 3 groups" in first
    assert "of no meaning for new ones" in done.stdout

    done = call("export", tmp_path / "run", "--data", everything, "-o", bundle)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["input"]["window"], manifest["input"]["period"]) == (100, pytest.approx(0.01))
    assert [channel["unit"] for channel in manifest["channels"]] == ["m/s2", "A", "℃"]
    measured = [
        json.loads(call("evaluate", bundle, tmp_path / "P3.csv", *window, "--json").stdout)
        for window in ((), ("--window", "1s"))
    ]
    accuracy = measured[0]["metrics"]["accuracy"]
    assert accuracy == measured[1]["metrics"]["accuracy"] and accuracy["n"] == 30 and accuracy["value"] > 0.9
    done = call("quantize", bundle, "--data", everything)
    assert done.returncode == 0 and "(n=90)" in done.stdout, done.stdout + done.stderr
    done = call("profile", bundle, "--seconds", 1, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["profile"]["length"] == 100, done.stderr
    watch_the_pump(bundle, tmp_path, files[0])


def watch_the_pump(bundle: Path, folder: Path, recording: Path) -> None:
    """Files and streams of a pump at work, of one with a dead sensor, and of one logged at half the rate."""
    text = recording.read_text(encoding="utf-8-sig")
    rows = text.splitlines()
    healthy = call("run", bundle, recording, "--json")
    assert healthy.returncode == 0, healthy.stderr
    predictions = json.loads(healthy.stdout)["predictions"]
    assert [p["start"] for p in predictions[:2]] == ["2026/11/02 08:00:00.00", "2026/11/02 08:00:01.00"]
    streamed = call("run", bundle, "-", "--follow", "--format", "csv", text=text)
    assert streamed.returncode == 0 and "malformed" not in streamed.stderr, streamed.stderr
    scores = list(csv.DictReader(streamed.stdout.splitlines()))
    assert [s["decision"] for s in scores] == [p["decision"] for p in predictions]
    dead = [rows[0], *(re.sub(r",[^,]+", ",0.0", row, count=1) for row in rows[1:])]
    (folder / "dead.csv").write_text("\n".join(dead) + "\n", encoding="utf-8")
    for source, given in (((folder / "dead.csv",), None), (("-", "--follow"), "\n".join(dead) + "\n")):
        done = call("run", bundle, *source, "--format", "csv", text=given)
        assert done.returncode == 3 and f"{VIBRATION}: flat" in done.stdout, done.stderr
    half = "\n".join([rows[0], *rows[1::2]]) + "\n"
    (folder / "half.csv").write_text(half, encoding="utf-8")
    for source, given in (((folder / "half.csv",), None), (("-", "--follow"), half)):
        done = call("run", bundle, *source, text=given)
        assert done.returncode == 2 and "0.02" in done.stderr and "0.01" in done.stderr, done.stderr


@is_long
@pytest.mark.slow
def test_data_scientist(tmp_path: Path) -> None:
    """Arrays in memory, labels as a list, paths as text; a machine left out; a bundle without the shell."""
    rng = np.random.default_rng(0)
    kinds = ["fast", "slow"] * 9
    x = np.stack(
        [
            np.sin(np.arange(96) * (0.5 if kind == "fast" else 0.15) + rng.uniform(0, 6, (2, 1)))
            for kind in kinds
        ]
    )
    x += 0.1 * rng.standard_normal(x.shape)
    machines = np.repeat(["P1", "P2", "P3"], 6)
    config = RunConfig(
        model=ModelConfig(width=16, layers=1, num_heads=2, filters=16, patch=8),
        training=TrainingConfig(epochs=8, batch_size=8),
    )
    run = edgesparse.train(x, config, str(tmp_path / "run"), labels=kinds, groups=machines, quiet=True)
    bundle, verdict = export_run(run, tmp_path / "x.edgesparse")
    assert verdict.holds and len(repr(bundle)) < 300
    session = Session(str(bundle.path), threads=1)
    assert session.classes == ("fast", "slow")
    ragged = [x[0], x[1][:, :64]]
    assert session.predict_labels(x).tolist() == [
        session.classes[k] for k in session.predict(x.astype(np.float64)).argmax(-1)
    ]
    assert session.predict(ragged).shape == (2, 2)
    for call_it, words in (
        (lambda: edgesparse.train(x, config, str(tmp_path / "a")), "labels"),
        (lambda: edgesparse.train(x, config, str(tmp_path / "a"), labels=["fast"]), "label"),
        (lambda: edgesparse.train("nowhere.csv", config, str(tmp_path / "a")), "nowhere.csv"),
        (lambda: session.predict("nowhere.csv"), "got a path. Read files with read_dataset"),  # type: ignore[arg-type]
        (lambda: session.predict(x[:, :1]), "channel"),
    ):
        with pytest.raises(InputError, match=words):
            call_it()


ENCODER = """
import sys, torch
from transformers import BertConfig, BertModel, BertTokenizerFast
torch.manual_seed(0)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(60))]
open(sys.argv[1] + "/vocab.txt", "w").write("\\n".join(words))
size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
BertModel(BertConfig(vocab_size=65, max_position_embeddings=128, **size)).save_pretrained(sys.argv[1])
BertTokenizerFast(sys.argv[1] + "/vocab.txt").save_pretrained(sys.argv[1])
"""


@is_long
@pytest.mark.slow
def test_encoder(tmp_path: Path) -> None:
    """Documents that are no multiple of a batch; the dense model beside it; what a tokenizer adds."""
    pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")
    folder, bundle, pages = tmp_path / "encoder", tmp_path / "encoder.edgesparse", tmp_path / "pages.txt"
    folder.mkdir()
    run_python(ENCODER, folder)
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(0, 60, rng.integers(60, 100)))) for _ in range(7)]
    pages.write_text("\n".join(texts) + "\n")
    done = call(
        "export", "--hf", folder, "--calibrate", pages, "--density", 0.5, "--with-dense", "-o", bundle
    )
    assert done.returncode == 0, done.stderr
    for verb in (("quantize", bundle, "--max-drop", "0.1"), ("verify", bundle)):
        done = call(*verb)
        assert done.returncode == 0, done.stderr
    sides = ("--precision-a", "float32", "--attention-a", "dense", "--seconds", "0.2", "--json")
    done = call("compare", bundle, bundle, *sides)
    assert done.returncode == 0 and json.loads(done.stdout)["comparison"]["cosine"] > 0.9, done.stderr
    session = Session(bundle, threads=1)
    ids = rng.integers(5, 65, (2, 100))
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    assert session.predict(given).shape == (2, 100, 32)
    long = {name: np.tile(values, 2) for name, values in given.items()}
    with pytest.raises(InputError, match="at most 128 tokens"):
        session.predict(long)
