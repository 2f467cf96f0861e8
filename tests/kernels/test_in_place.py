"""The output in the place of the queries: when onnxruntime puts it there, and that no bit changes.

onnxruntime plans this from declared shapes alone, and keeps to the plan when a run's shapes are others: an
output larger than the queries is then refused. So wider values show what a session has planned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.kernels.cases import CASES, Case
from tests.support.kernels.models import Feeds, Shape, make_model, open_session

CASE = Case("in_place", Shape(131, 131, b=2), 16, {"window": 1}, {"masked": 0.3})


def make_inner_model(case: Case, precision: str = "float32", *, declared: bool = True) -> onnx.ModelProto:
    """Neg(query) -> attention -> Neg: queries and output both lie inside the graph.

    Without `declared` shapes onnxruntime does not know that the two are of one size, and keeps them apart.
    """
    model = make_model(asdict(case.node(precision)))
    graph, (node,) = model.graph, model.graph.node
    node.input[0], node.output[0] = "negated", "mixed"
    graph.node.insert(0, helper.make_node("Neg", ["query"], ["negated"]))
    graph.node.append(helper.make_node("Neg", ["mixed"], ["output"]))
    if declared:
        shape = ["batch", "tokens", case.shape.h * case.shape.d]
        graph.input[0].CopyFrom(helper.make_tensor_value_info("query", TensorProto.FLOAT, shape))
        graph.value_info.append(helper.make_tensor_value_info("mixed", TensorProto.FLOAT, shape))
    return model


def with_value_size(case: Case, size: int) -> Feeds:
    """The inputs with values of another width than the model declares."""
    return replace(case, shape=replace(case.shape, v=size)).feeds()


def is_planned(session: onnxruntime.InferenceSession, case: Case) -> bool:
    """Whether the session has the output written where the queries stand."""
    names = {x.name for x in session.get_inputs()}
    feeds = {k: v for k, v in with_value_size(case, case.shape.d + 8).items() if k in names}
    try:
        session.run(["selection"], feeds)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        if "Shape mismatch attempting to re-use buffer" not in str(error):
            raise
        return True
    return False


def run_both(
    library: Path, case: Case, precision: str, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The output in place, and in memory of its own."""
    feeds, outputs = case.feeds(), []
    for declared in (True, False):
        session = open_session(library, make_inner_model(case, precision, declared=declared), threads)
        outputs.append(session.run(["output"], feeds)[0])
        # A second run has the first one's memory.
        np.testing.assert_array_equal(session.run(["output"], feeds)[0], outputs[-1])
        assert is_planned(session, case) is declared
    return outputs[0], outputs[1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize(
    "case",
    [x for x in CASES if x.shape.d == x.shape.v and x.shape.n and x.shape.m],
    ids=lambda case: case.name,
)
def test_the_output_in_place_of_the_queries_has_the_same_bits(
    library: Path, case: Case, precision: str, threads: int
) -> None:
    in_place, apart = run_both(library, case, precision, threads)
    assert in_place.tobytes() == apart.tobytes()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_several_packing_passes_have_the_same_bits(library: Path, precision: str) -> None:
    """These keys do not fit one pass: later passes read queries beside rows that are written already."""
    case = Case("passes", Shape(70, 16500, d=128, v=128, b=2), 64)
    in_place, apart = run_both(library, case, precision, 2)
    assert in_place.tobytes() == apart.tobytes()


def add_to_the_outputs_sum(graph: onnx.GraphProto, name: str) -> None:
    """A reader that cannot run before attention has."""
    graph.node.append(helper.make_node("ReduceSum", ["mixed"], ["total"], keepdims=0))
    graph.node.append(helper.make_node("Add", [name, "total"], ["later"]))
    graph.output.append(helper.make_tensor_value_info("later", TensorProto.FLOAT, None))


def read_later(graph: onnx.GraphProto) -> None:
    add_to_the_outputs_sum(graph, "negated")


def seen_later_through_a_view(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "flat_shape"))
    graph.node.insert(1, helper.make_node("Reshape", ["negated", "flat_shape"], ["flat"]))
    add_to_the_outputs_sum(graph, "flat")


def returned(graph: onnx.GraphProto) -> None:
    graph.output.append(helper.make_tensor_value_info("negated", TensorProto.FLOAT, None))


def keys_as_well(graph: onnx.GraphProto) -> None:
    graph.node[1].input[1] = "negated"
    del graph.input[1]


def given(graph: onnx.GraphProto) -> None:
    graph.node[1].input[0] = "query"
    del graph.node[0]


def constant(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(CASE.feeds()["query"], "query"))
    given(graph)
    del graph.input[0]


@pytest.mark.parametrize(
    "use", [read_later, seen_later_through_a_view, returned, keys_as_well, given, constant]
)
@pytest.mark.parametrize("parallel", [False, True])
def test_queries_that_are_still_needed_are_left_alone(
    library: Path, use: Callable[[onnx.GraphProto], None], parallel: bool
) -> None:
    results = []
    for declared in (True, False):
        model = make_inner_model(CASE, declared=declared)
        use(model.graph)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if parallel:
            options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        options.register_custom_ops_library(str(library))
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        assert not is_planned(session, CASE)
        names = {x.name for x in session.get_inputs()}
        feeds = {k: v.copy() for k, v in CASE.feeds().items() if k in names}
        results.append([x.tobytes() for x in session.run(None, feeds)])
        assert results[-1] == [x.tobytes() for x in session.run(None, feeds)]
        for name, array in feeds.items():
            np.testing.assert_array_equal(array, CASE.feeds()[name])
    assert results[0] == results[1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_model_that_declares_wrong_shapes_gets_the_right_output(
    library: Path, precision: str, threads: int
) -> None:
    """Narrower values: the output is put there all the same, over queries that are still to be read."""
    feeds, outputs = with_value_size(CASE, 8), []
    for declared in (True, False):
        session = open_session(library, make_inner_model(CASE, precision, declared=declared), threads)
        assert is_planned(session, CASE) is declared
        outputs.append(session.run(["output"], feeds)[0].tobytes())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_exported_model_gets_it_and_says_the_same(
    library: Path, shared_bundle: Bundle, series: SeriesSet, precision: str
) -> None:
    model = onnx.load(shared_bundle.model_path(precision))
    graph = model.graph
    declared = {x.name: x.type.tensor_type.shape for x in graph.value_info}
    attention = [x for x in graph.node if x.op_type == "SparseAttention"]
    assert attention
    for node in attention:
        # What onnxruntime asks for: one declared shape, and no reader that may run after attention.
        assert declared[node.input[0]] == declared[node.output[0]]
        readers = [x for x in graph.node if node.input[0] in x.input]
        assert [x.op_type for x in readers] == ["BlockScores", "SparseAttention"]
        assert readers[0].output[0] == node.input[3]

    window, results = np.stack(series.series[:4]), []
    # Without all declared shapes, onnxruntime fuses other nodes: only those of attention's outputs go.
    mixed = {node.output[0] for node in attention}
    for kept in (list(graph.value_info), [x for x in graph.value_info if x.name not in mixed]):
        del graph.value_info[:]
        graph.value_info.extend(kept)
        for threads in (1, 2):
            session = open_session(library, model, threads)
            feeds = {session.get_inputs()[0].name: window}
            results.append([np.asarray(x).tobytes() for x in session.run(None, feeds)])
    assert all(x == results[0] for x in results)
