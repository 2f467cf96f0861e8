"""A file that is a plain model to protobuf and another one, in onnxruntime's own format, to onnxruntime."""

from __future__ import annotations

import struct
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto, helper

FACTOR = 7.0
_MARK = b"ORTM"
# Four bytes are the place of a table to one. To the other they are field 1 and the start of field 1 again,
# whose value is the O of the mark; R starts field 10, and T is its length.
_FIRST_KEYS = (0x08, 0x10)
_SECOND_KEY = 0x0088 << 16
_REST = b"\0" * (ord("T") - 1)
_DOC_STRING = 6 << 3 | 2


def model_of_two_formats(folder: Path) -> bytes:
    """Returns the window itself to whoever reads protobuf, and `FACTOR` times it to onnxruntime.

    Args:
        folder: where onnxruntime writes its format on the way.
    """
    honest = _model(helper.make_node("Identity", ["window"], ["scores"])).SerializeToString()
    other = _model(
        helper.make_node("Scaler", ["window"], ["scores"], domain="ai.onnx.ml", offset=[0.0], scale=[FACTOR])
    )
    for padding in range(16):
        other.producer_version = "x" * padding
        other.doc_string = "y" * padding
        content = _own_format(other, folder)
        found = _place(struct.unpack("<I", content[:4])[0])
        if found is not None:
            return _joined(found, content) + honest
    raise AssertionError("the table of the other model has no place that is a field")


def _model(node: onnx.NodeProto) -> onnx.ModelProto:
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", 1, "time"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "graph", [window], [scores])
    opsets = [helper.make_opsetid("", 20)]
    if node.domain:
        opsets.append(helper.make_opsetid(node.domain, 3))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _own_format(model: onnx.ModelProto, folder: Path) -> bytes:
    path = folder / "model.ort"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    content = path.read_bytes()
    path.unlink()
    return content


def _place(root: int) -> tuple[int, int] | None:
    """Where the table can stand, as a number whose bytes are keys and values, and how far that moves it."""
    for first in _FIRST_KEYS:
        for value in range(128):
            place = first | value << 8 | _SECOND_KEY
            if (place - root) % 8 == 0:
                return place, place - root
    return None


def _joined(found: tuple[int, int], content: bytes) -> bytes:
    """The other model inside a text of the honest one, where its references to itself still lead."""
    place, moved = found
    head = struct.pack("<I", place) + _MARK + _REST
    end = moved + len(content)
    # A length of four bytes.
    start = len(head) + 1 + 4
    length = end - start
    sizes = bytes([length >> shift & 127 | (128 if shift < 21 else 0) for shift in (0, 7, 14, 21)])
    return head + bytes([_DOC_STRING]) + sizes + bytes(moved - start) + content
