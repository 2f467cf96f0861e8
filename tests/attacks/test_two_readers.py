"""Files that two readers could understand in two ways: refused, and what passes is written in one form.

onnxruntime reads with protobuf, or with a format of its own; the checker has a reader of its own. Each file
here is one model to the one and another to the other, or could be.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.model_check.open import session_options
from edgesparse_runtime.model_check.protobuf_wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    write_field,
    write_key,
)
from edgesparse_runtime.session import Session
from tests.support.hostile_models import HOSTILE, honest
from tests.support.model_agreement import check_agreement
from tests.support.model_differences import kept_parts
from tests.support.opening.two_formats import FACTOR, model_of_two_formats

MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER = 7, 1, 5
NODE_OP_TYPE, NODE_DOMAIN, NODE_OVERLOAD, NODE_INPUT = 4, 7, 8, 1
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_RAW, TENSOR_FLOATS = 1, 2, 9, 4


def spliced(message: object, extra: bytes) -> bytes:
    """A message with more bytes after its own."""
    return message.SerializeToString() + extra  # type: ignore[attr-defined,no-any-return]


def with_node(extra: bytes, **changes: str) -> bytes:
    """The honest model whose first node has more bytes, and other texts, than its own."""
    model = honest()
    node = model.graph.node[0]
    for name, text in changes.items():
        setattr(node, name, text)
    hidden = spliced(node, extra)
    del model.graph.node[0]
    graph = write_field(GRAPH_NODE, hidden) + model.graph.SerializeToString()
    model.ClearField("graph")
    return spliced(model, write_field(MODEL_GRAPH, graph))


def with_tensor(content: bytes) -> bytes:
    """The honest model with one more tensor."""
    model = honest()
    graph = spliced(model.graph, write_field(GRAPH_INITIALIZER, content))
    model.ClearField("graph")
    return spliced(model, write_field(MODEL_GRAPH, graph))


def fixed(number: int, text: bytes) -> bytes:
    """A field of text bytes in the wire type of a number of 32 bits."""
    return write_key(number, FIXED32) + text.ljust(4, b"\0")[:4]


HIDDEN: dict[str, bytes] = {
    "Loop behind a name of four bytes": with_node(fixed(NODE_OP_TYPE, b"Relu"), op_type="Loop"),
    "Loop behind a number": with_node(write_key(NODE_OP_TYPE, VARINT) + b"\x05", op_type="Loop"),
    "Loop behind eight bytes": with_node(write_key(NODE_OP_TYPE, FIXED64) + b"Identity", op_type="Loop"),
    "an operator named twice": with_node(write_field(NODE_OP_TYPE, b"Identity"), op_type="Loop"),
    "a domain behind a name of four bytes": with_node(fixed(NODE_DOMAIN, b""), domain="ai.onnx.ml"),
    "an overload behind a number": with_node(write_key(NODE_OVERLOAD, VARINT) + b"\0", overload="3"),
    "an input as a number": with_node(write_key(NODE_INPUT, VARINT) + b"\1"),
    "a field that ONNX does not have": with_node(write_field(77, b"x")),
    "a field number of five bytes": with_node(write_key((1 << 29) - 1, VARINT) + b"\0"),
    "a group": with_node(bytes([NODE_OP_TYPE << 3 | 3, NODE_OP_TYPE << 3 | 4])),
    "dimensions as a number of 32 bits": with_tensor(
        write_key(TENSOR_DIMS, FIXED32) + bytes(4) + write_field(TENSOR_DIMS, 1 << 30) + write_field(2, 1)
    ),
    "a type twice": with_tensor(
        write_field(TENSOR_DIMS, 1)
        + write_field(2, 1)
        + write_field(2, 11)
        + write_field(TENSOR_RAW, bytes(4))
    ),
    "a type above 32 bits": with_tensor(
        write_field(TENSOR_DIMS, 1) + write_field(2, (1 << 32) + 1) + write_field(TENSOR_RAW, bytes(4))
    ),
    "values in two places": with_tensor(
        write_field(TENSOR_DIMS, 1)
        + write_field(2, 1)
        + write_field(TENSOR_RAW, bytes(4))
        + write_field(TENSOR_FLOATS, bytes(4))
    ),
    "values of another type": with_tensor(
        write_field(TENSOR_DIMS, 1) + write_field(2, 7) + write_field(TENSOR_FLOATS, bytes(4))
    ),
    "more values than the shape": with_tensor(
        write_field(TENSOR_DIMS, 1) + write_field(2, 1) + write_field(TENSOR_RAW, bytes(8))
    ),
    "a graph twice": spliced(honest(), write_field(MODEL_GRAPH, honest().graph.SerializeToString())),
    "a model behind a model": spliced(honest(), honest().SerializeToString()),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_could_be_read_in_two_ways_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(HIDDEN[name])
    with pytest.raises(BundleError, match="must"):
        Session(path)


def test_a_file_of_two_formats_is_refused(tmp_path: Path) -> None:
    """onnxruntime takes four bytes at the start for its own format, whatever the rest is."""
    content = model_of_two_formats(tmp_path)
    window = np.ones((1, 1, 4), np.float32)
    # One model to protobuf, another to onnxruntime unless the format is pinned.
    assert [node.op_type for node in onnx.load_model_from_string(content).graph.node] == ["Identity"]
    for options, factor in ((onnxruntime.SessionOptions(), FACTOR), (session_options(threads=1), 1.0)):
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        np.testing.assert_array_equal(session.run(None, {"window": window})[0], window * factor)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="onnxruntime's own format"):
        Session(path)


def test_every_session_pins_the_format() -> None:
    options = session_options(threads=1)
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"
    with pytest.raises(Exception, match=r"Protobuf|protobuf|parse"):
        onnxruntime.InferenceSession(b"\x08\xb1\x88\x00ORTM" + bytes(64), options, ["CPUExecutionProvider"])


def test_sessions_of_models_are_opened_in_one_place() -> None:
    """A session that is made elsewhere would not have the pinned format."""
    root = Path(__file__).parents[2] / "runtime" / "edgesparse_runtime"
    found = {
        p.relative_to(root).as_posix() for p in root.rglob("*.py") if "InferenceSession(" in p.read_text()
    }
    # The engine opens a model of its own, to ask the library for its instruction set.
    assert found == {"engine.py", "model_check/open.py"}


def colons() -> list[onnx.ModelProto]:
    """onnxruntime joins domain, name and overload with colons; these would be taken for another function."""
    models = []
    for where, text in (("op_type", "Double:3"), ("domain", "edgesparse:Double"), ("overload", "3:4")):
        model = honest()
        setattr(model.graph.node[2], where, text)
        models.append(model)
    for where in ("name", "domain", "overload"):
        model = honest()
        setattr(model.functions[0], where, "Double:3")
        models.append(model)
    return models


@pytest.mark.parametrize("model", colons())
def test_colons_in_names_of_functions_are_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(BundleError, match="without a colon"):
        check_model(model.SerializeToString(), "m")


def test_overloads_are_counted_as_onnxruntime_resolves_them() -> None:
    """Thirty functions that call each other four times: 4^30 nodes in a few kilobytes."""
    model = honest()
    before = ""
    for level in range(30):
        function = model.functions.add()
        function.CopyFrom(model.functions[0])
        function.overload = f"o{level}"
        del function.node[:]
        for i in range(4):
            node = helper.make_node("Double" if before else "Identity", ["x"], [f"y{i}"])
            node.domain, node.overload = ("edgesparse" if before else ""), before
            function.node.append(node)
        before = function.overload
    model.graph.node[2].overload = before
    with pytest.raises(BundleError, match="expand to at most"):
        check_model(model.SerializeToString(), "m")


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"])
def test_no_function_takes_the_name_of_an_operator_of_others(domain: str) -> None:
    model = honest()
    model.functions[0].domain = domain
    model.graph.node[2].domain = domain
    with pytest.raises(BundleError, match="in domains of its own"):
        check_model(model.SerializeToString(), "m")


def test_both_names_of_the_onnx_domain_are_one() -> None:
    model = honest()
    model.graph.node[0].domain = "ai.onnx"
    model.graph.node[1].domain = "ai.onnx"
    model.graph.node[1].op_type = "Loop"
    with pytest.raises(BundleError, match="no operator Loop"):
        check_model(model.SerializeToString(), "m")
    model.graph.node[1].op_type = "MatMul"
    written = onnx.load_from_string(check_model(model.SerializeToString(), "m").content)
    assert [node.domain for node in written.graph.node[:2]] == ["", ""]


CRASHED_ONCE = [
    ("com.microsoft", "MatMulNBits"),
    ("com.microsoft", "GroupQueryAttention"),
    ("com.microsoft", "CropAndResize"),
    ("", "RoiAlign"),
    ("", "MaxUnpool"),
    ("", "SplitToSequence"),
    ("", "RandomNormal"),
    ("edgesparse", "F"),
    ("ai.onnx.ml", "Scaler"),
    ("com.microsoft.nchwc", "Conv"),
]


@pytest.mark.parametrize(("domain", "operator"), CRASHED_ONCE)
def test_operators_outside_the_list_are_refused_and_can_be_allowed(
    domain: str, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = honest()
    model.graph.node[1].domain, model.graph.node[1].op_type = domain, operator
    content, name = model.SerializeToString(), f"{domain or 'ai.onnx'}::{operator}"
    with pytest.raises(BundleError, match="known to be safe"):
        check_model(content, "m")
    check_model(content, "m", operators=[name])
    monkeypatch.setenv("EDGESPARSE_ALLOW_OPERATORS", f"ai.onnx::LSTM, {name}")
    check_model(content, "m")


@pytest.mark.parametrize("name", ["ai.onnx::Loop", "Relu", "x::", "com.microsoft::EPContext", "::*"])
def test_some_operators_can_never_be_allowed(name: str) -> None:
    with pytest.raises(InputError, match="must name operators"):
        check_model(honest().SerializeToString(), "m", operators=[name])


def test_what_passes_is_what_protobuf_reads(shared_bundle: Bundle) -> None:
    """What is written anew is the same model to the official reader, and written again the same bytes."""
    contents = [shared_bundle.read(shared_bundle.model_file(p)) for p in shared_bundle.precisions]
    for content in [*contents, honest().SerializeToString()]:
        written = check_model(content, "m").content
        assert kept_parts(onnx.load_from_string(content)) == kept_parts(onnx.load_from_string(written))
        assert check_model(written, "m").content == written


def test_packed_and_unpacked_lists_are_one() -> None:
    unpacked = b"".join(write_field(TENSOR_DIMS, n) for n in (2, 1))
    packed = write_field(TENSOR_DIMS, b"\x02\x01")
    rest = write_field(TENSOR_DATA_TYPE, 1)
    values = struct.pack("<2f", 1.5, -2)
    one_by_one = b"".join(write_key(TENSOR_FLOATS, FIXED32) + values[i : i + 4] for i in (0, 4))
    at_once = write_key(TENSOR_FLOATS, BYTES) + bytes([8]) + values
    forms = {
        check_model(with_tensor(dims + rest + floats), "m").content
        for dims in (unpacked, packed)
        for floats in (one_by_one, at_once)
    }
    assert len(forms) == 1


def test_the_model_of_a_session_is_the_written_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = honest()
    model.doc_string = "not passed on"
    path.write_bytes(model.SerializeToString())
    session = Session(path)
    assert b"not passed on" not in session.read_model()
    assert session.predict(np.ones((1, 1, 5), np.float32)).shape == (1, 2)


def test_hostile_models_are_hostile_in_every_form() -> None:
    """Field order is no defense: protobuf allows any."""
    for change, _ in HOSTILE.values():
        model = honest()
        change(model)
        graph = model.graph.SerializeToString()
        model.ClearField("graph")
        with pytest.raises(BundleError):
            check_model(write_field(MODEL_GRAPH, graph) + model.SerializeToString(), "m")


def test_a_function_imports_the_onnx_domain_by_either_name() -> None:
    """onnxruntime refuses the long one there; what is written anew has the short one."""
    model = honest()
    model.functions[0].opset_import[0].domain = "ai.onnx"
    content = model.SerializeToString()
    written = onnx.load_from_string(check_model(content, "m").content)
    assert [entry.domain for entry in written.functions[0].opset_import] == [""]
    assert check_agreement(content, opens=True) is None
