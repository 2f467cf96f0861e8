"""Opening a model file below a megabyte takes at most 2 s and 500 MB, whatever it would compute."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.session import Session
from tests.support.hostile_models import honest
from tests.support.opening.costly_models import COSTLY, calls_of_a_wide_function, unsorted
from tests.support.paths import ROOT, source_environment

MOST_SECONDS, MOST_MEGABYTES = 2, 500


@pytest.fixture(scope="module")
def costs() -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.opening.measure"],
        cwd=ROOT,
        env=source_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", COSTLY)
def test_a_small_file_opens_within_two_seconds_and_500_mb(name: str, costs: dict[str, Any]) -> None:
    cost = costs[name]
    assert cost["bytes"] < 1_000_000
    assert not cost["error"]
    assert cost["seconds"] <= MOST_SECONDS
    assert cost["peak_mb"] <= MOST_MEGABYTES


def test_inputs_of_called_nodes_count_each_time() -> None:
    """Walking them took minutes for a file of 200 kB."""
    start = time.process_time()
    with pytest.raises(BundleError, match="expand to nodes of at most 120000 inputs and outputs"):
        check_model(calls_of_a_wide_function(), "model.onnx")
    assert time.process_time() - start < 2


def test_nodes_out_of_order_are_refused() -> None:
    """What an Expand takes must be known to be constant before it is reached."""
    with pytest.raises(BundleError, match="list each node after those whose outputs it takes"):
        check_model(unsorted(), "model.onnx")


def test_a_model_with_dense_weights_is_prepared_as_before(shared_bundle: Bundle) -> None:
    for precision in shared_bundle.precisions:
        name = shared_bundle.model_file(precision)
        preparation = check_model(shared_bundle.read(name), name).preparation
        assert preparation.folds and preparation.rewrites


def test_what_is_not_folded_is_computed_when_the_model_runs(tmp_path: Path) -> None:
    """A product of constants: too costly to bound, so it is left to the run, with the same result."""
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", 1, "time"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])
    left = onnx.numpy_helper.from_array(np.array([[1.0, 2.0]], np.float32), "left")
    right = onnx.numpy_helper.from_array(np.array([[1.0, 0.0], [1.0, 3.0]], np.float32), "right")
    nodes = [
        helper.make_node("MatMul", ["left", "right"], ["weight"]),
        helper.make_node("ReduceMean", ["window"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "weight"], ["wide"]),
        helper.make_node("ReduceMax", ["wide", "axes"], ["scores"], keepdims=0),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "g", [window], [scores], [left, right, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert not check_model(path.read_bytes(), "model.onnx").preparation.folds
    assert Session(path).predict(np.full((1, 1, 4), 2, np.float32)).tolist() == [[6, 12]]


def many(model: onnx.ModelProto, what: str) -> None:
    """Tens of thousands of what is neither a node nor a tensor."""
    count = 40_000
    if what == "value infos":
        model.graph.value_info.extend([helper.make_tensor_value_info("v", 1, [1, 2])] * count)
    elif what == "inputs":
        model.graph.input.extend([helper.make_tensor_value_info("v", 1, [1, 2])] * count)
    elif what == "opsets":
        model.opset_import.extend([helper.make_opsetid("x", 1)] * (2 * count))
    elif what == "notes":
        for i in range(count):
            model.metadata_props.add(key=f"k{i}", value="v")
    else:
        model.graph.node[0].input.extend(["window"] * 122_000)


@pytest.mark.parametrize("what", ["value infos", "inputs", "opsets", "notes", "names of inputs"])
def test_everything_that_is_read_counts_as_a_field(what: str) -> None:
    """20 MB of value infos once took 980 MB and 6 s in onnxruntime."""
    model = honest()
    many(model, what)
    content = model.SerializeToString()
    assert len(content) < 1_000_000
    # What other tests left in memory is not to be looked through for garbage on this one's time.
    gc.collect()
    gc.freeze()
    try:
        start = time.process_time()
        with pytest.raises(BundleError, match=r"hold at most \d+ fields"):
            check_model(content, "model.onnx")
        assert time.process_time() - start < MOST_SECONDS
    finally:
        gc.unfreeze()


def test_a_field_that_comes_without_end_is_refused_at_its_second() -> None:
    """100 MB of `08 01`, 99 kB in an archive, once took 32 s."""
    start = time.process_time()
    with pytest.raises(BundleError, match="field `ir_version` of a Model twice"):
        check_model(b"\x08\x01" * 20_000_000, "model.onnx")
    assert time.process_time() - start < MOST_SECONDS
