"""`edgesparse update`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.evaluation.verify import verify
from edgesparse_runtime.operation.update.head import read_head, with_head, without_head
from edgesparse_runtime.session import Session
from tests.support.processes import check_one_line, run_python
from tests.support.synthetic import make_series
from tests.system.operation.test_monitor import cli

LABELED = ("--label-column", "state", "--series-column", "part", "--group-column", "machine")
# The verb in a process that cannot import what the device does not have.
WITHOUT_TORCH = """
import sys
ABSENT = {"torch", "onnx", "onnxscript", "onnx_ir", "scipy", "edgesparse", "edgesparse_export"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ImportError(name + " is not on the device")
sys.meta_path.insert(0, Refuse())
from edgesparse_runtime.cli.app import run
code = run(sys.argv[1:])
assert not {"torch", "onnx", "scipy"} & set(sys.modules)
sys.exit(code)
"""


def write_series(path: Path, count: int, slow: float, fast: float, seed: int, labels: bool = True) -> Path:
    """A table of series of two frequencies, eight of them per machine."""
    rng = np.random.default_rng(seed)
    rows = ["machine,part,time,current,voltage" + (",state" if labels else "")]
    for i in range(count):
        kind = i % 2
        t = np.arange(600)
        x = np.sin(t * (slow if kind else fast) + rng.uniform(0, 6, (2, 1))) + 0.2 * rng.standard_normal(
            (2, 600)
        )
        tail = (",slow" if kind else ",fast") if labels else ""
        rows += [f"m{i // 8},{i},{k},{a:.4f},{b:.4f}{tail}" for k, (a, b) in enumerate(x.T.tolist())]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data as before, and of a line that runs at other speeds."""
    folder: Path = tmp_path_factory.mktemp("update")
    write_series(folder / "old.csv", 40, 0.15, 0.4, 5)
    write_series(folder / "new.csv", 40, 0.28, 0.7, 6)
    write_series(folder / "unlabeled.csv", 16, 0.28, 0.7, 7, labels=False)
    return folder


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_head_is_taken_off_and_put_on(shared_bundle: Bundle, precision: str) -> None:
    name = shared_bundle.model_file(precision)
    content, windows = shared_bundle.read(name), make_series(4, seed=3).to_batch()
    head = read_head(content, name)
    features = Session(name, content=without_head(content, name)).predict(windows).astype(np.float64)
    scores = Session(name, content=content).predict(windows)
    logits = head.logits(features)
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.allclose(grown / grown.sum(axis=1, keepdims=True), scores, atol=1e-5)
    assert np.allclose(
        Session(name, content=with_head(content, head, name)).predict(windows), scores, atol=1e-6
    )
    swapped = type(head)(head.weight[::-1].copy(), head.bias[::-1].copy())
    other = Session(name, content=with_head(content, swapped, name)).predict(windows)
    assert np.allclose(other, scores[:, ::-1], atol=1e-5)


def test_a_challenger_is_better_on_new_data(shared_bundle: Bundle, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.edgesparse"
    data = (files / "new.csv", "--old", files / "old.csv", "--margin", "0.2", *LABELED)
    printed = run_python(
        WITHOUT_TORCH,
        *map(str, ("update", shared_bundle.path, *data, "-o", out, "--expires", "90d", "--json")),
    )
    result = json.loads(printed)
    new, old = result["update"]["new"], result["update"]["old"]
    assert new["low"] > 0 and new["groups"] == 5 and new["after"] > 0.9
    assert old["low"] >= -0.2
    challenger = open_bundle(out)
    assert challenger.manifest["release"] == 1 and challenger.manifest["parent"] == shared_bundle.sha256
    assert challenger.manifest["expires"] > "2026" and challenger.manifest["update"]["mode"] == "head"
    assert all(check.holds for check in verify(challenger))
    assert set(challenger.precisions) == {"float32", "int8"}
    again = cli("update", out, *data, "-o", tmp_path / "third.edgesparse", "--release", 1)
    check_one_line(again, 2, "`--release` must be above 1")
    # It has learned these data already: nothing is gained a second time.
    twice = cli("update", out, *data, "-o", tmp_path / "third.edgesparse")
    assert twice.returncode == 3 and not (tmp_path / "third.edgesparse").exists()


def test_a_worse_challenger_is_not_written(shared_bundle: Bundle, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.edgesparse"
    done = cli("update", shared_bundle.path, files / "old.csv", "-o", out, *LABELED)
    assert done.returncode == 3 and "must be better on the new data" in done.stderr
    assert not out.exists()


def test_calibrate_changes_scores_for_the_better(shared_bundle: Bundle, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.edgesparse"
    options = ("--mode", "calibrate", "-o", out, "--json", *LABELED)
    done = cli("update", shared_bundle.path, files / "new.csv", *options)
    result = json.loads(done.stdout)["update"]["new"]
    assert result["name"] == "cross entropy" and result["after"] < result["before"]
    assert done.returncode == (0 if result["low"] > 0 else 3) and out.exists() == (result["low"] > 0)
    assert "without --old DATA" in done.stderr


def test_windows_to_label_are_named(shared_bundle: Bundle, files: Path) -> None:
    options = ("--series-column", "part", "--group-column", "machine", "--ask", 6, "--json")
    done = cli("update", shared_bundle.path, files / "unlabeled.csv", *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["windows"]
    assert len({row["window"] for row in rows}) == 6
    assert [row["group"] for row in rows].count("m0") == 3
    assert {row["reason"] for row in rows} == {"uncertain", "unlike"}


def test_bad_requests_are_one_line(shared_bundle: Bundle, files: Path, tmp_path: Path) -> None:
    path, new = shared_bundle.path, files / "new.csv"
    check_one_line(cli("update", path, new), 2, "`--out` must name the challenger")
    check_one_line(cli("update", path, new, "-o", path), 2, "another place than the champion's")
    out = ("-o", tmp_path / "x.edgesparse")
    check_one_line(cli("update", path, new, *out, "--mode", "more"), 2, "`--mode` must be")
    check_one_line(cli("update", path, new, *out, "--margin", "2"), 2, "`--margin` must be 0 to 1")
    check_one_line(cli("update", path, new, "--ask", "0"), 2, "`--ask` must be at least 1")
    check_one_line(cli("update", path, tmp_path / "none.csv", *out), 2, "no such file")
    few = write_series(tmp_path / "few.csv", 4, 0.2, 0.5, 1)
    check_one_line(cli("update", path, few, *out, *LABELED), 2, "must have at least 10 labeled windows")
