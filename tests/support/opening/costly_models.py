"""Model files below a megabyte that keep every rule and would cost much to open."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgesparse_runtime.model_check.limits import SMALL_LIMITS

# Floats that fit into a file below a megabyte.
_FLOATS = 230_000


def make_model(
    nodes: Sequence[onnx.NodeProto],
    tensors: dict[str, np.ndarray],
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """A model from `window` to `scores`."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", 1, "time"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "costly", [window], [scores], stored)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    return bytes(model.SerializeToString())


def _folded(*nodes: onnx.NodeProto, **tensors: np.ndarray) -> bytes:
    """The constant `c` that `nodes` compute is added to the window."""
    largest = [
        helper.make_node("Cast", ["c"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["numbers"], ["largest"], keepdims=0),
        helper.make_node("Add", ["window", "largest"], ["scores"]),
    ]
    return make_model([*nodes, *largest], tensors)


def _chain(
    operator: str, steps: int, first: str, last: str, *others: str, domain: str = ""
) -> list[onnx.NodeProto]:
    names = [first, *(f"{last}{i}" for i in range(steps - 1)), last]
    pairs = itertools.pairwise(names)
    return [helper.make_node(operator, [a, *others], [b], domain=domain) for a, b in pairs]


def _numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _column(size: int) -> np.ndarray:
    return np.ones((size, 1), np.float32)


def _doubled() -> bytes:
    names = ["one", *(f"c{i}" for i in range(28)), "c"]
    pairs = itertools.pairwise(names)
    nodes = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairs]
    return _folded(*nodes, one=np.ones(1, np.float32))


def _large_results() -> bytes:
    """Each just below what is folded, all alive together."""
    count = 700
    nodes = [helper.make_node("ConstantOfShape", [f"shape{i}"], [f"c{i}"]) for i in range(count)]
    nodes.append(helper.make_node("Concat", [f"c{i}" for i in range(count)], ["c"], axis=0))
    return _folded(*nodes, **{f"shape{i}": _numbers(65_000 + i) for i in range(count)})


def _convolved() -> bytes:
    node = helper.make_node("Conv", ["line", "filter"], ["c"], pads=[1 << 20, 1 << 20])
    size = _FLOATS // 2
    line = np.ones((1, 1, size), np.float32)
    return _folded(node, line=line, filter=line.copy())


def _static_shape() -> bytes:
    """The shape of an input that has no free dimension is a constant too."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, [1, 1, 1 << 29])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Shape", ["window"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["window", "zeros"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "costly", [window], [scores])
    opsets = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def _in_functions() -> bytes:
    """One function, called often with the same constant."""
    body = _chain("Sin", 40, "x", "y")
    function = helper.make_function("own", "F", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    calls = _chain("F", 200, "line", "c", domain="own")
    total = [
        helper.make_node("ReduceMax", ["c"], ["largest"], keepdims=0),
        helper.make_node("Add", ["window", "largest"], ["scores"]),
    ]
    return make_model([*calls, *total], {"line": _column(_FLOATS)}, [function])


def _in_a_branch() -> bytes:
    branch = helper.make_graph(
        [helper.make_node("Mul", ["column", "row"], ["chosen"])],
        "branch",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch)
    column = _column(_FLOATS // 2)
    return _folded(node, yes=np.array(True), column=column, row=column.T.copy())


def _used_often(operator: str, weight: np.ndarray, uses: int) -> bytes:
    """One weight that many nodes use, each on another input."""
    nodes = []
    for i in range(uses):
        nodes.append(helper.make_node("Mul", ["window", f"k{i}"], [f"w{i}"]))
        nodes.append(helper.make_node(operator, [f"w{i}", "weight"], [f"y{i}"]))
    nodes.append(helper.make_node("Max", [f"y{i}" for i in range(uses)], ["scores"]))
    factors = {f"k{i}": np.full(1, i + 2, np.float32) for i in range(uses)}
    return make_model(nodes, {"weight": weight, **factors})


def _many_calls() -> bytes:
    steps = 24
    body = _chain("Sin", steps, "x", "y")
    function = helper.make_function("own", "F", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    calls = SMALL_LIMITS.expanded_nodes // (steps + 1)
    return make_model(_chain("F", calls, "window", "scores", domain="own"), {}, [function])


def _wide_sum() -> bytes:
    """The bound of its result is a product of all sizes, and each input is one more pass over it."""
    inputs = ["row"] * (SMALL_LIMITS.fields // 2)
    return _folded(helper.make_node("Sum", inputs, ["c"]), row=np.ones(60_000, np.float32))


def calls_of_a_wide_function() -> bytes:
    """Few nodes, whose many inputs are walked for each pair of sizes that their function is called with."""
    body = [helper.make_node("Sum", ["x", "y"] * 20_000, ["z"])]
    function = helper.make_function("own", "F", ["x", "y"], ["z"], body, [helper.make_opsetid("", 20)])
    sizes = {f"c{i}": np.ones(i + 1, np.uint8) for i in range(50)}
    calls = [
        helper.make_node("F", [f"c{i % 50}", f"c{i // 50}"], [f"o{i}"], domain="own") for i in range(2_000)
    ]
    last = helper.make_node("Identity", ["window"], ["scores"])
    return make_model([*calls, last], sizes, [function])


_MANY = SMALL_LIMITS.nodes - 10
COSTLY: dict[str, Callable[[], bytes]] = {
    "ConstantOfShape": lambda: _folded(
        helper.make_node("ConstantOfShape", ["shape"], ["c"]), shape=_numbers(1 << 31)
    ),
    "Expand": lambda: _folded(
        helper.make_node("Expand", ["one", "shape"], ["c"]), one=_column(1), shape=_numbers(1 << 20, 1 << 9)
    ),
    "Tile": lambda: _folded(
        helper.make_node("Tile", ["line", "times"], ["c"]), line=_column(10_000), times=_numbers(1 << 15, 1)
    ),
    "Pad": lambda: _folded(
        helper.make_node("Pad", ["line", "pads"], ["c"]), line=_column(10), pads=_numbers(0, 0, 1 << 29, 0)
    ),
    "Range": lambda: _folded(
        helper.make_node("Range", ["first", "last", "step"], ["c"]),
        **{name: np.array(value, np.int64) for name, value in (("first", 0), ("last", 1 << 28), ("step", 1))},
    ),
    "Gather": lambda: _folded(
        helper.make_node("Gather", ["line", "rows"], ["c"], axis=1),
        line=_column(100_000),
        rows=np.zeros(60_000, np.int64),
    ),
    "a sum of many inputs": _wide_sum,
    "an outer sum": lambda: _folded(
        helper.make_node("Add", ["column", "row"], ["c"]),
        column=_column(_FLOATS // 2),
        row=_column(_FLOATS // 2).T,
    ),
    "an outer product": lambda: _folded(
        helper.make_node("MatMul", ["column", "row"], ["c"]),
        column=_column(_FLOATS // 2),
        row=_column(_FLOATS // 2).T,
    ),
    "a convolution": _convolved,
    "a tensor doubled often": _doubled,
    "many results of allowed size": _large_results,
    "the shape of the input": _static_shape,
    "a long chain on a constant": lambda: _folded(*_chain("Sin", 2_000, "line", "c"), line=_column(_FLOATS)),
    "constants in functions": _in_functions,
    "constants in a branch": _in_a_branch,
    "a column packed often": lambda: _used_often("MatMul", _column(_FLOATS), 900),
    "a matrix packed often": lambda: _used_often("MatMul", np.ones((480, 480), np.float32), 900),
    "filters packed often": lambda: _used_often("Conv", np.ones((1, 1, _FLOATS), np.float32), 900),
    "as many nodes as are allowed": lambda: make_model(_chain("Sin", _MANY, "window", "scores"), {}),
    "as many calls as are allowed": _many_calls,
    "as many tensors as are allowed": lambda: make_model(
        _chain("Sin", 1, "window", "scores"),
        {f"t{i}": np.full(1, i, np.float32) for i in range(SMALL_LIMITS.tensors - 10)},
    ),
    "as many transposes as are allowed": lambda: make_model(
        [
            helper.make_node("Transpose", [f"t{i}" if i else "window"], [f"t{i + 1}"], perm=[2, 1, 0])
            for i in range(4_000)
        ]
        + [helper.make_node("Identity", ["t4000"], ["scores"])],
        {},
    ),
}


def unsorted() -> bytes:
    """The constant is listed after the node that makes it larger."""
    nodes = [
        helper.make_node("Expand", ["made", "shape"], ["c"]),
        helper.make_node("Identity", ["one"], ["made"]),
    ]
    return _folded(*nodes, one=_column(1), shape=_numbers(1 << 20, 1 << 9))
