"""Bills of materials: valid CycloneDX, with the hash of every file, the model's card and packages."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import copy_bundle
from edgesparse_runtime.deploying.sbom import bundle_bom, installed_bom
from edgesparse_runtime.errors import InputError
from tests.support.processes import check_one_line, edgesparse


def check_schema(bom: dict[str, Any]) -> None:
    """Against CycloneDX's own schema where its package is installed, else the fields it requires."""
    assert bom["bomFormat"] == "CycloneDX" and bom["specVersion"] == "1.6"
    references = [part["bom-ref"] for part in bom["components"]]
    assert len(references) == len(set(references))
    known = {*references, bom["metadata"]["component"]["bom-ref"]}
    for entry in bom["dependencies"]:
        assert entry["ref"] in known and set(entry.get("dependsOn", [])) <= known
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        return
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)) is None


def test_a_bundle_s_bill_names_model_files_data_and_packages(shared_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "pump.csv").write_bytes(b"time,label\n")
    bom = bundle_bom(shared_bundle, license_of="Apache-2.0", data=tmp_path / "pump.csv")
    check_schema(bom)
    model = bom["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["name"] == "tiny" and model["version"] == "0"
    assert model["hashes"] == [{"alg": "SHA-256", "content": shared_bundle.sha256}]
    assert model["licenses"] == [{"expression": "Apache-2.0"}]
    parts = {part["bom-ref"]: part for part in bom["components"]}
    for name, entry in shared_bundle.manifest["files"].items():
        assert parts[f"file:{name}"]["hashes"][0]["content"] == entry["sha256"]
    assert parts["data:pump.csv"]["hashes"][0]["content"] == hashlib.sha256(b"time,label\n").hexdigest()
    for name in ("numpy", "onnxruntime"):
        found = parts[f"pkg:pypi/{name}@{version(name)}"]
        assert found["purl"] == found["bom-ref"] and found["licenses"]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {m["slice"] for m in metrics} == set(shared_bundle.manifest["metrics"])
    again = bundle_bom(shared_bundle, license_of="Apache-2.0", data=tmp_path / "pump.csv")
    assert json.dumps(again) == json.dumps(bom)


def test_an_update_s_data_come_with_their_hashes(shared_bundle: Bundle, tmp_path: Path) -> None:
    fields = {"release": 3, "update": {"data": {"new": {"source": "line.csv", "sha256": "ab" * 32}}}}
    changed = copy_bundle(shared_bundle, tmp_path / "new.edgesparse", {}, fields)
    bom = bundle_bom(changed)
    check_schema(bom)
    assert bom["metadata"]["component"]["version"] == "3"
    hashes = {part["name"]: part.get("hashes") for part in bom["components"]}
    assert hashes["update, new: line.csv"] == [{"alg": "SHA-256", "content": "ab" * 32}]


def test_this_installation_s_bill_follows_requirements() -> None:
    bom = installed_bom("2026-11-27T12:00:00Z")
    check_schema(bom)
    parts = {part["name"]: part for part in bom["components"]}
    assert parts["numpy"]["scope"] == parts["onnxruntime"]["scope"] == "required"
    # What onnxruntime requires, and an extra.
    assert parts["protobuf"]["scope"] == "required"
    assert parts["pytest"]["scope"] == "optional"
    assert bom["metadata"]["component"]["name"] == "edgesparse"


def test_the_verb_prints_or_writes(shared_bundle: Bundle, tmp_path: Path) -> None:
    printed = edgesparse("sbom", shared_bundle.path)
    assert printed.returncode == 0
    check_schema(json.loads(printed.stdout))
    out = tmp_path / "tiny.cdx.json"
    told = edgesparse("sbom", shared_bundle.path, "-o", out, "--json")
    assert json.loads(told.stdout)["of"] == "tiny"
    assert json.loads(out.read_text()) == json.loads(printed.stdout)


def test_bad_requests_end_in_one_line(shared_bundle: Bundle, tmp_path: Path) -> None:
    check_one_line(edgesparse("sbom", "--license", "MIT"), 2, "are of a bundle")
    check_one_line(edgesparse("sbom", tmp_path / "none.edgesparse"), 2, "no such file or folder")
    gone = edgesparse("sbom", shared_bundle.path, "--data", tmp_path / "gone.csv")
    check_one_line(gone, 2, "gone.csv: no such file or folder")
    with pytest.raises(InputError, match="must be an SPDX expression"):
        bundle_bom(shared_bundle, license_of="MIT\n<b>")
