"""pack, unpack, sign, inspect and verify as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.processes import check_one_line, edgesparse


@pytest.fixture
def copied(tmp_path: Path, shared_bundle: Bundle) -> Path:
    return Path(shutil.copytree(shared_bundle.path, tmp_path / "pump.edgesparse"))


def test_one_file_signed_and_verified(copied: Path, tmp_path: Path) -> None:
    key, one = tmp_path / "factory.pem", tmp_path / "release" / "pump.edgesparse"
    signed = edgesparse("sign", copied, "--key", key, "--make-key")
    assert signed.returncode == 0, signed.stderr
    packed = edgesparse("pack", copied, "-o", one, "--json")
    assert json.loads(packed.stdout)["bytes"] == one.stat().st_size
    public = tmp_path / "factory.pub.pem"
    verified = edgesparse("verify", one, "--require-signature", public, "--json")
    assert verified.returncode == 0, verified.stderr
    found = json.loads(verified.stdout)
    assert found["holds"] is True and found["broken"] == []
    assert "signature" in [check["boundary"] for check in found["checks"]]
    inspected = json.loads(edgesparse("inspect", one, "--json").stdout)
    assert (inspected["form"], len(inspected["signature"])) == ("archive", 128)
    again = tmp_path / "again.edgesparse"
    assert edgesparse("unpack", one, "-o", again).returncode == 0
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in copied.iterdir()
    }
    check_one_line(edgesparse("pack", one, "-o", tmp_path / "x.edgesparse"), 2, "is already an archive")


def test_a_missing_signature_exits_3_and_is_named(copied: Path, tmp_path: Path) -> None:
    edgesparse("sign", copied, "--key", tmp_path / "a.pem", "--make-key")
    over = ("sign", copied, "--key", tmp_path / "b.pem", "--make-key")
    check_one_line(edgesparse(*over), 2, "is signed with another key. Add --overwrite")
    assert not (tmp_path / "b.pem").exists()
    assert edgesparse(*over, "--overwrite").returncode == 0
    result = edgesparse("verify", copied, "--require-signature", tmp_path / "a.pub.pem")
    assert result.returncode == 3
    assert "signature  BROKEN" in result.stdout
    assert result.stderr.strip().endswith("signature.")
    # A changed file is found before anything else, and is bad input.
    (copied / "card.md").write_text("trust me")
    damaged = edgesparse("verify", copied, "--json")
    assert damaged.returncode == 2
    assert json.loads(damaged.stdout)["broken"] == ["hashes"]


def test_run_asks_for_a_signature_too(copied: Path, tmp_path: Path, series: SeriesSet) -> None:
    table = tmp_path / "pump.csv"
    write_csv(table, series.take(range(2)))
    edgesparse("sign", copied, "--key", tmp_path / "b.pem", "--make-key")
    edgesparse("sign", copied, "--key", tmp_path / "a.pem", "--make-key", "--overwrite")
    # Standard input is at its end: a stream without a sample.
    for arguments in ((table,), ("-", "--follow", "--window", 32)):
        good = edgesparse("run", copied, *arguments, "--require-signature", tmp_path / "a.pub.pem", "--json")
        assert good.returncode == 0, good.stderr
        bad = edgesparse("run", copied, *arguments, "--require-signature", tmp_path / "b.pub.pem")
        check_one_line(bad, 2, "it was signed with another key")
    model = copied / "model.onnx"
    bare = edgesparse("run", model, table, "--require-signature", tmp_path / "a.pub.pem")
    check_one_line(bare, 2, "needs a bundle; ")


def test_inspect_says_what_is_inside(copied: Path) -> None:
    shown = edgesparse("inspect", copied).stdout
    for word in ("signature           none", "schema version 3", "float32, int8", "trained on", "golden.npz"):
        assert word in shown, shown
    assert json.loads(edgesparse("inspect", "--schema").stdout)["title"] == "EdgeSparse bundle manifest"
    check_one_line(edgesparse("inspect"), 2, "needs a bundle, or `--schema`")
