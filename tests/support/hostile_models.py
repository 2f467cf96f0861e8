"""Small hostile and honest models, spelled with `onnx`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Change = Callable[[onnx.ModelProto], None]


def honest() -> onnx.ModelProto:
    """A model of one input `window` with a function, a branch, attributes and tensors of several kinds."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", 1, "time"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])
    weights = numpy_helper.from_array(np.array([[0.5, -0.5]], np.float32), "weights")
    typed = helper.make_tensor("axes", TensorProto.INT64, [1], [2])
    double = helper.make_function(
        "edgesparse",
        "Double",
        ["x"],
        ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 20)],
    )
    branch = helper.make_graph(
        [helper.make_node("Identity", ["doubled"], ["chosen"])],
        "branch",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceMean", ["window", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["raw"]),
        helper.make_node("Double", ["raw"], ["doubled"], domain="edgesparse"),
        helper.make_node(
            "Constant", [], ["yes"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])
        ),
        helper.make_node("If", ["yes"], ["picked"], then_branch=branch, else_branch=branch),
        helper.make_node("Softmax", ["picked"], ["scores"], axis=-1),
    ]
    graph = helper.make_graph(nodes, "honest", [window], [scores], [weights, typed])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgesparse", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[double], ir_version=10)


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def _external_in_a_branch(model: onnx.ModelProto) -> None:
    branch = model.graph.node[4].attribute[0].g
    tensor = branch.initializer.add()
    tensor.CopyFrom(model.graph.initializer[0])
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def _huge_claim(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 40, 1 << 40])


def _huge_typed_claim(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[0] = 1 << 40


def _sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend([1 << 40])
    sparse.values.CopyFrom(model.graph.initializer[0])


def _sparse_constant(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[3].attribute[0]
    attribute.ClearField("t")
    attribute.name, attribute.type = "sparse_value", onnx.AttributeProto.SPARSE_TENSOR
    attribute.sparse_tensor.dims.extend([1 << 40])


def _foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[2].domain = "com.example"


def _loop(model: onnx.ModelProto) -> None:
    model.graph.node[4].op_type = "Loop"


def _loop_in_a_function(model: onnx.ModelProto) -> None:
    model.functions[0].node[0].op_type = "Scan"


def _other_file(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("EPContext", [], ["x"], domain="com.microsoft", ep_cache_context="../secret")
    )


def _calls_itself(model: onnx.ModelProto) -> None:
    node = model.functions[0].node[0]
    node.op_type, node.domain = "Double", "edgesparse"
    del node.input[1:]


def _calls_in_a_circle(model: onnx.ModelProto) -> None:
    for name, other in (("Ping", "Pong"), ("Pong", "Ping")):
        function = model.functions.add()
        function.CopyFrom(model.functions[0])
        function.name = name
        function.node[0].op_type, function.node[0].domain = other, "edgesparse"


def _add_function(model: onnx.ModelProto, name: str, *, output: str) -> onnx.FunctionProto:
    """A function of one input, still empty."""
    function = model.functions.add()
    function.name, function.domain = name, "edgesparse"
    function.input.append("x")
    function.output.append(output)
    return function


def _bomb(model: onnx.ModelProto) -> None:
    """Each function calls the one before ten times: a billion nodes from a hundred."""
    before = "Double"
    for level in range(9):
        function = _add_function(model, f"Bomb{level}", output="y9")
        names = ["x", *(f"y{i}" for i in range(10))]
        for i in range(10):
            function.node.append(helper.make_node(before, [names[i]], [names[i + 1]], domain="edgesparse"))
        before = function.name
    model.graph.node[2].op_type = before


def _chain(model: onnx.ModelProto) -> None:
    before = "Double"
    for level in range(200):
        function = _add_function(model, f"Chain{level}", output="y")
        function.node.append(helper.make_node(before, ["x"], ["y"], domain="edgesparse"))
        before = function.name
    model.graph.node[2].op_type = before


def _deep(model: onnx.ModelProto) -> None:
    graph = model.graph.node[4].attribute[0].g
    for _ in range(30):
        node = graph.node.add()
        node.op_type = "If"
        attribute = node.attribute.add()
        attribute.name, attribute.type = "then_branch", onnx.AttributeProto.GRAPH
        graph = attribute.g
    graph.node.add().op_type = "Identity"


def _twice(model: onnx.ModelProto) -> None:
    model.functions.append(model.functions[0])


def _many_nodes(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["window"], ["w"])
    model.graph.node.extend([node] * 50_001)


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.CopyFrom(model.graph)


def _segment(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].segment.begin = 0


HOSTILE: dict[str, tuple[Change, str]] = {
    "external data": (_external, "one names another file"),
    "external data in a branch": (_external_in_a_branch, "one names another file"),
    "a tensor larger than the file": (_huge_claim, "elements for a tensor's shape; it holds 8 bytes"),
    "typed data larger than the file": (_huge_typed_claim, "elements for a tensor's shape; it holds 1"),
    "a sparse initializer": (_sparse, "hold no sparse tensors"),
    "a sparse constant": (_sparse_constant, "hold no sparse tensors"),
    "a foreign operator": (_foreign_operator, "known to be safe; got 'com.example::Double'"),
    "a loop": (_loop, "hold no operator Loop"),
    "a scan in a function": (_loop_in_a_function, "hold no operator Scan"),
    "an operator that loads a file": (_other_file, "hold no operator EPContext"),
    "a function that calls itself": (_calls_itself, "'Double' calls itself"),
    "functions in a circle": (_calls_in_a_circle, "calls itself"),
    "a bomb of functions": (_bomb, "expand to at most 10000 nodes"),
    "a chain of functions": (_chain, "nest calls of functions at most 32 deep"),
    "graphs in graphs": (_deep, "nest graphs at most 8 deep"),
    "a function twice": (_twice, "'Double' comes twice"),
    "many nodes": (_many_nodes, "at most 20000 nodes"),
    "a training part": (_training, "hold no training part"),
    "a segment": (_segment, "one is a segment"),
}


def make_bomb() -> bytes:
    """A small file that keeps the rules and asks for 64 GB when it runs."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", 2, "time"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])
    nodes = [
        helper.make_node("ReduceSum", ["window"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "huge"], ["shape"]),
        helper.make_node("Expand", ["zero", "shape"], ["filled"]),
        helper.make_node("ReduceSum", ["filled"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["window", "axes"], ["two"], keepdims=0),
        helper.make_node("Add", ["two", "total"], ["scores"]),
    ]
    tensors = [
        helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("huge", TensorProto.INT64, [1], [1 << 34]),
        helper.make_tensor("axes", TensorProto.INT64, [1], [2]),
    ]
    graph = helper.make_graph(nodes, "bomb", [window], [scores], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())
