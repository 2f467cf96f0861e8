"""Hostile model files: refused in one sentence before onnxruntime sees them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.check import Limits, check_model
from edgesparse_runtime.model_check.protobuf_wire import WireError, fields
from edgesparse_runtime.session import Session
from tests.support.hostile_models import HOSTILE, honest


def test_an_honest_model_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(honest().SerializeToString())
    scores = Session(path).predict(np.ones((1, 1, 5), np.float32))
    assert scores.sum() == pytest.approx(1)


def test_what_is_counted() -> None:
    facts = check_model(honest().SerializeToString(), "honest.onnx").facts
    assert (facts.nodes, facts.functions, facts.tensors) == (9, 1, 3)
    assert facts.expanded_nodes == 9
    assert facts.domains == {"", "edgesparse"}
    # Two float32 and one bool in raw bytes or not, one int64.
    assert facts.tensor_bytes >= 8


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_refused(name: str, tmp_path: Path) -> None:
    change, message = HOSTILE[name]
    model = honest()
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError) as caught:
        Session(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path} must ")


def test_our_own_bundles_pass_far_below_the_limits(shared_bundle: Bundle) -> None:
    for precision in shared_bundle.precisions:
        name = shared_bundle.model_file(precision)
        facts = check_model(shared_bundle.read(name), name).facts
        limits = Limits()
        assert facts.nodes * 20 < limits.nodes
        assert facts.tensors * 20 < limits.tensors
        assert facts.fields * 20 < limits.fields
        assert facts.domains <= {"", "edgesparse", "com.microsoft"}


def test_a_second_graph_is_refused() -> None:
    content = honest().SerializeToString()
    with pytest.raises(BundleError, match=r"field `[a-z_]*` of a Model twice"):
        check_model(content + content, "model.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x3a",
        b"\x3a\xff",
        b"\x3a\xff\xff\xff\xff\x7f",
        b"\x08" + b"\xff" * 11,
        b"\x0b",
        b"\x00\x00",
        b"\x09\x01",
    ],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"must (be an ONNX model|hold a graph)"):
        check_model(content, "model.onnx")


def test_the_reader_agrees_with_protobuf() -> None:
    """Every field of a real message comes out, numbers and all."""
    tensor = onnx.helper.make_tensor("t", onnx.TensorProto.INT64, [2, 3], range(6))
    tensor.doc_string = "x" * 300
    found = list(fields(memoryview(tensor.SerializeToString())))
    numbers = [number for number, _, _ in found]
    assert numbers in ([1, 1, 2, 7, 8, 12], [1, 2, 7, 8, 12])
    assert bytes(found[-1][2]) == b"x" * 300  # type: ignore[arg-type]
    with pytest.raises(WireError):
        list(fields(memoryview(tensor.SerializeToString()[:-1])))


def test_mutated_models_end_in_a_sentence() -> None:
    """Some thousand here; `make prove-serve` runs hundreds of thousands."""
    seed = honest().SerializeToString()
    draw = random.Random(0)
    passed = 0
    for _ in range(5_000):
        content = bytearray(seed)
        for _ in range(draw.randint(1, 6)):
            at = draw.randrange(len(content))
            content[at] = draw.randrange(256)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content)) :]
        try:
            check_model(bytes(content), "m")
            passed += 1
        except BundleError:
            pass
    assert 0 < passed < 5_000
