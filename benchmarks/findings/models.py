"""Findings of model files and native operators: 1 to 5, 8, 21."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper

from benchmarks.findings.box import Box, Ended, Outcome, constant, model_of, tiny_model
from tests.support.opening.two_formats import FACTOR, model_of_two_formats

_PHANTOM_RELU = bytes([4 << 3 | 5]) + b"Relu"


def _outcome(ended: Ended) -> Outcome:
    """A model that opens, or keeps the opener busy, has passed the check."""
    if ended.code is None:
        return Outcome(True, "still running when its time was up")
    return Outcome(ended.code == 0, ended.out.strip().replace("\n", "; ") if ended.code == 0 else ended.last)


def two_formats(box: Box) -> Outcome:
    """A file that is a plain model to the reader and another one to onnxruntime."""
    ended = box.open(model_of_two_formats(box.folder), "two_formats")
    scores = ended.out.split("\n")[1].split()[0] if ended.code == 0 else ""
    return Outcome(scores == str(FACTOR), _outcome(ended).what)


def _with_phantoms(model: ModelProto, operator: str) -> bytes:
    """Each node of this operator followed by an operator name of another wire type."""
    graph, content = model.graph, bytearray()
    for node in graph.node:
        hidden = node.SerializeToString() + (_PHANTOM_RELU if node.op_type == operator else b"")
        content += b"\x0a" + _length(hidden) + hidden
    del graph.node[:]
    content += graph.SerializeToString()
    model.ClearField("graph")
    return bytes(model.SerializeToString()) + b"\x3a" + _length(bytes(content)) + bytes(content)


def _length(content: bytes) -> bytes:
    number, out = len(content), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def hidden_loop(box: Box) -> Outcome:
    """An endless Loop whose name is followed by another one, of another wire type."""
    number, truth = TensorProto.INT64, TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", number, []),
            helper.make_tensor_value_info("on", truth, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", truth, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    model = model_of(
        [helper.make_node("Loop", ["times", "yes", "window"], ["scores"], body=body)],
        constant("times", 2**62, np.int64),
        constant("yes", True, np.bool_),
    )
    return _outcome(box.open(_with_phantoms(model, "Loop"), "hidden_loop", seconds=15))


def overload_bomb(box: Box) -> Outcome:
    """Functions that are called with their overload in the name: 4^30 nodes in 5 kB."""
    domain = "edgesparse"
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    model = model_of([helper.make_node("F:30", ["window"], ["scores"], domain=domain)], domain=domain)
    for level in range(31):
        names = ["x", "a", "b", "c", "y"]
        called = ("Relu", "") if level == 0 else (f"F:{level - 1}", domain)
        nodes = [helper.make_node(called[0], [names[i]], [names[i + 1]], domain=called[1]) for i in range(4)]
        function = helper.make_function(domain, "F", ["x"], ["y"], nodes, opsets)
        function.overload = str(level)
        model.functions.append(function)
    return _outcome(box.open(model.SerializeToString(), "overloads", seconds=20, runs=False))


def operators(box: Box) -> Outcome:
    """MaxUnpool with indices beyond its output: it crashes onnxruntime 1.22."""
    node = helper.make_node("MaxUnpool", ["window", "at"], ["scores"], kernel_shape=[2], strides=[2])
    model = model_of([node], constant("at", np.full((1, 1, 8), 1 << 33), np.int64))
    return _outcome(box.open(model.SerializeToString(), "maxunpool", runs=False))


def no_features(box: Box) -> Outcome:
    """A bank without filters before a product: its output is never written. Expected is the bias, 7."""
    columns = 16
    tensors = [
        constant("weight", np.zeros((1, 0, 1, 9))), constant("slope", np.zeros((1, 0))),
        constant("offset", np.zeros((1, 0, 4))), constant("center", np.zeros(0)),
        constant("spread", np.zeros(0)), constant("matrix", np.zeros((1, 0, 16, 4)), np.int8),
        constant("scale", np.ones(columns)), constant("bias", np.full(columns, 7)),
        constant("first", 0, np.int64),
    ]  # fmt: skip
    nodes = [
        helper.make_node("IsNaN", ["window"], ["nan"]),
        helper.make_node("Not", ["nan"], ["ok"]),
        helper.make_node("Gather", ["ok", "first"], ["real"], axis=1),
        helper.make_node(
            "KernelBankLinear",
            ["window", "real", *(tensor.name for tensor in tensors[:-1])],
            ["scores"],
            domain="edgesparse",
            dilations=[1],
            patch=1,
            before=4,
        ),
    ]
    model = model_of(nodes, *tensors, domain="edgesparse")
    outcome = _outcome(box.open(model.SerializeToString(), "no_features"))
    return Outcome(outcome.succeeds and "; 7.0 7.0 7.0 7.0" not in outcome.what, outcome.what)


def scores_of_another_type(box: Box) -> Outcome:
    """Scores of float64, which the server sends as FP32."""
    return _outcome(box.open(tiny_model(TensorProto.DOUBLE), "doubles", runs=False))


def endless_field(box: Box) -> Outcome:
    """One field twelve million times: 24 MB that take a few kB in an archive."""
    ended = box.open(tiny_model() + b"\x08\x0a" * 12_000_000, "fields", seconds=60)
    return _outcome(ended)


ATTACKS = {
    1: two_formats,
    2: hidden_loop,
    3: overload_bomb,
    4: operators,
    5: no_features,
    8: scores_of_another_type,
    21: endless_field,
}
