"""What ONNX files of a bundle state about themselves."""

from __future__ import annotations

import hashlib
import json

import onnx
import onnxruntime
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.model_check.metadata import HASH, describe, read_metadata, stamp, strip


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_model_of_a_bundle_states_what_it_is(shared_bundle: Bundle, precision: str) -> None:
    content = shared_bundle.read(shared_bundle.model_file(precision))
    found = onnxruntime.InferenceSession(content).get_modelmeta().custom_metadata_map
    assert found["edgesparse.name"] == "tiny"
    assert found["edgesparse.task"] == "classification"
    assert found["edgesparse.release"] == "0"
    assert json.loads(found["edgesparse.channels"]) == list(shared_bundle.channels)
    assert json.loads(found["edgesparse.classes"]) == list(shared_bundle.classes)
    assert json.loads(found["edgesparse.units"]) == [None] * len(shared_bundle.channels)
    assert found == read_metadata(content)
    # The hash is of the file without these entries, as anyone can tell with the package onnx.
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    assert found[HASH] == hashlib.sha256(strip(content)).hexdigest()
    assert onnx.load_from_string(strip(content)) == model


def test_a_new_stamp_replaces_the_old_one_and_leaves_other_entries(shared_bundle: Bundle) -> None:
    model = onnx.load_from_string(shared_bundle.read("model.onnx"))
    model.metadata_props.add(key="theirs", value="kept")
    manifest = {**shared_bundle.manifest, "release": 4, "input": {"period": 0.02}}
    manifest["channels"] = [{"name": "ток", "unit": "A"}]
    content = stamp(model.SerializeToString(), manifest)
    assert stamp(content, manifest) == content
    entries = onnx.load_from_string(content).metadata_props
    assert len({entry.key for entry in entries}) == len(entries)
    found = {entry.key: entry.value for entry in entries}
    assert found["theirs"] == "kept"
    assert (found["edgesparse.release"], found["edgesparse.rate_hz"]) == ("4", "50")
    assert json.loads(found["edgesparse.channels"]) == ["ток"]
    assert {k: v for k, v in found.items() if k != HASH and k != "theirs"} == describe(manifest)
