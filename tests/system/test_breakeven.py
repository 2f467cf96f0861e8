"""`edgesparse breakeven` as a user meets it."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from edgesparse_export.twin_bundle import add_twins
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.cli.checking import breakeven as verb
from edgesparse_runtime.session import Session
from tests.support.processes import CLI, check_one_line, edgesparse, start

QUICK = ("--threads", 1, "--seconds", 0.02, "--length", "200,600", "--density", "0.5")


@pytest.fixture
def copied(tmp_path: Path, shared_bundle: Bundle) -> Path:
    return Path(shutil.copytree(shared_bundle.path, tmp_path / "pump.edgesparse"))


def test_measured_stored_and_followed(copied: Path, tmp_path: Path) -> None:
    signed = edgesparse("sign", copied, "--key", tmp_path / "a.pem", "--make-key")
    assert signed.returncode == 0
    shown = edgesparse("breakeven", copied, *QUICK)
    assert shown.returncode == 0, shown.stderr
    assert "sign it again" in shown.stderr
    for words in ("sparse/dense", "as exported", "float32: ", "int8: ", "native"):
        assert words in shown.stdout
    bundle = open_bundle(copied)
    entries = bundle.manifest["breakeven"]
    assert [(e["precision"], e["threads"], len(e["table"])) for e in entries] == [
        ("float32", 1, 4),
        ("int8", 1, 4),
    ]
    steps = next(r["steps"] for r in entries[0]["dense_up_to"] if r["density"] is None)
    session = Session(bundle, precision="float32", threads=1)
    assert session.switch.steps == steps
    assert "measured on this kind of machine" in session.switch.reason
    words = f"dense up to {steps} steps" if steps else "sparse always"
    assert f"float32: {words}" in shown.stdout
    assert words in edgesparse("inspect", copied).stdout
    # Measured again it takes the old entry's place; other threads get one of their own.
    again = edgesparse("breakeven", copied, *QUICK, "--precision", "int8", "--json")
    (entry,) = json.loads(again.stdout)["entries"]
    stored = open_bundle(copied).manifest["breakeven"]
    assert [e["precision"] for e in stored] == ["float32", "int8"]
    assert stored[1] == entry
    assert edgesparse("verify", copied).returncode == 0
    assert not (copied.parent / "pump.breakeven.json").exists()
    doctor = json.loads(edgesparse("doctor", copied, "--json").stdout)
    assert set(doctor["attention"]) == {"float32", "int8"}
    profiled = json.loads(
        edgesparse("profile", copied, "--precision", "float32", *QUICK[:4], "--length", 200, "--json").stdout
    )
    assert profiled["profile"]["engine"] == session.engine_at(200)
    assert profiled["profile"]["why"] == session.switch.reason


def test_profile_shows_the_model_that_ran(copied: Path) -> None:
    """A hand-made limit: short windows are profiled as the twin, its modules included."""
    bundle = add_twins(open_bundle(copied), ["float32"])
    assert edgesparse("breakeven", copied, *QUICK, "--precision", "float32").returncode == 0
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["breakeven"][0]["dense_up_to"] = [{"density": None, "steps": 300}]
    path.write_text(json.dumps(manifest))
    options = ("--precision", "float32", *QUICK[:4], "--json")
    for length, dense in ((300, True), (301, False)):
        found = json.loads(edgesparse("profile", copied, *options, "--length", length).stdout)
        assert found["profile"]["engine"].endswith("dense twin") is dense
        operators = {operator for module in found["modules"] for operator in module["operators"]}
        assert ("MultiHeadAttention" in operators, "SparseAttention" in operators) == (dense, not dense)
    assert bundle.path == copied


def test_interrupted_it_resumes(copied: Path) -> None:
    options = ("--threads", "1", "--seconds", "0.4", "--length", "100,200,300,400,500,600", "--density", "")
    arguments = ["breakeven", str(copied), "--precision", "float32", *options]
    process = start(*CLI, *arguments)
    kept = copied.parent / "pump.breakeven.json"
    end = time.monotonic() + 60
    while not kept.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert open_bundle(copied).manifest["breakeven"] == []
    first = json.loads(kept.read_text())[0]["rows"][0]
    again = edgesparse(*arguments, "--json")
    assert "of 6 cells are already measured" in again.stderr
    # Progress ends where the work does, whatever was done before.
    assert "6/6" in again.stderr and "7/6" not in again.stderr
    (entry,) = json.loads(again.stdout)["entries"]
    assert (entry["table"][0], len(entry["table"])) == (first, 6)
    assert not kept.exists()


def test_a_box_without_the_extra_needs_a_prepared_bundle(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb.importlib.util, "find_spec", lambda name: None)
    arguments = ["breakeven", str(copied), *map(str, QUICK), "--precision", "int8"]
    assert command(arguments) == 4
    said = capsys.readouterr().err
    assert "--prepare" in said and "edgesparse[export]" in said
    assert len(said.strip().splitlines()) == 1
    assert edgesparse("breakeven", copied, "--prepare").returncode == 0
    assert open_bundle(copied).manifest["breakeven"] == []
    assert command(arguments) == 0


def test_bad_input_is_one_line(copied: Path, tmp_path: Path) -> None:
    check_one_line(edgesparse("breakeven", tmp_path / "no.edgesparse"), 2, "no such file or folder")
    check_one_line(edgesparse("breakeven", copied, "--precision", "int4"), 2, "must be float32, int8 or all")
    check_one_line(edgesparse("breakeven", copied, "--length", "long"), 2, "numbers separated by commas")
    check_one_line(edgesparse("breakeven", copied, "--density", "1.5"), 2, "at most 1; got")
    check_one_line(edgesparse("breakeven", copied, "--seconds", "0"), 2, "`--seconds` must be above 0")
