"""Graph passes: what they take, what they leave alone, and that the model means the same afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from edgesparse.attention.router import Router
from edgesparse.model.filter_bank import FilterBank
from edgesparse.training.run_folder import Run
from edgesparse_export.passes.gelu import halve_last
from edgesparse_export.passes.linear import pack_weight, use_native_linear
from edgesparse_export.program import to_onnx
from edgesparse_export.quantize.int8 import linear_nodes, quantize_natively
from edgesparse_runtime.bundle.read import Bundle
from tests.support.synthetic import make_series


def run_plain(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """By function bodies, in float32."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, feeds)[0])


class Block(nn.Module):
    """Norm, linear, GELU, linear, residual; a third linear whose output two others read."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width, bias=False)
        self.split = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        a, b, c = self.split(self.norm(x)).chunk(3, dim=-1)
        return a * b + c


def export(module: nn.Module, width: int) -> onnx.ModelProto:
    program = torch.onnx.export(
        module.eval(),
        (torch.randn(2, 9, width),),
        input_names=["x"],
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},),
        opset_version=18,
    )
    assert program is not None
    return ir.to_proto(program.model)


@pytest.mark.filterwarnings("ignore")
def test_onnxruntime_fuses_a_gelu_that_is_halved_last(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = export(Block(32, 64), 32)
    reordered = ir.from_proto(before)
    assert halve_last(reordered) == 1
    after = ir.to_proto(reordered)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(after.SerializeToString(), options)
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "BiasGelu" in kinds and "Erf" not in kinds
    x = np.random.default_rng(0).standard_normal((3, 11, 32)).astype(np.float32)
    np.testing.assert_allclose(run_plain(after, {"x": x}), run_plain(before, {"x": x}), rtol=1e-5, atol=1e-6)
    # Unfused, the order changes no bit.
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs = [
        onnxruntime.InferenceSession(m.SerializeToString(), plain).run(None, {"x": x})[0]
        for m in (before, after)
    ]
    np.testing.assert_array_equal(*outputs)
    # A second time there is nothing to move.
    halve_last(reordered)
    assert ir.to_proto(reordered) == after


@pytest.mark.filterwarnings("ignore")
def test_what_only_resembles_a_gelu_is_left_alone() -> None:
    model = export(Block(32, 64), 32)
    for initializer in model.graph.initializer:
        if onnx.numpy_helper.to_array(initializer).tolist() == 0.5:
            initializer.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.25), initializer.name))
    resembling = ir.from_proto(model)
    assert halve_last(resembling) == 0
    converted, _ = use_native_linear(model, linear_nodes(model))
    assert "FeedForward" not in {node.op_type for node in converted.graph.node}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_reordered", [False, True])
def test_layers_are_taken_with_what_stands_around_them(is_reordered: bool) -> None:
    torch.manual_seed(0)
    model = export(Block(32, 64), 32)
    if is_reordered:
        changed = ir.from_proto(model)
        halve_last(changed)
        model = ir.to_proto(changed)
    converted, taken = use_native_linear(model, linear_nodes(model))
    nodes = [n for n in converted.graph.node if n.domain == "edgesparse"]
    flags = [{a.name: onnx.helper.get_attribute_value(a) for a in n.attribute} for n in nodes]
    assert [n.op_type for n in nodes] == ["FeedForward", "LinearSplit"]
    assert (flags[1]["normalize"], flags[1]["gelu"]) == (1, 0)
    # The first adds the block's input; nothing but the last products and sums is left.
    assert nodes[0].input[0] == nodes[0].input[9] == "x"
    assert {n.op_type for n in converted.graph.node if not n.domain} <= {"Mul", "Add", "Constant"}
    assert len(taken) == 3
    assert {n.name for n in nodes} <= set(taken)
    x = np.random.default_rng(0).standard_normal((3, 11, 32)).astype(np.float32)
    expected, actual = run_plain(model, {"x": x}), run_plain(converted, {"x": x})
    # Weights are bytes now, so the two differ by their rounding.
    assert np.sqrt(np.mean((expected - actual) ** 2)) < 0.01 * expected.std()


@pytest.mark.filterwarnings("ignore")
def test_widths_that_are_no_multiple_of_16_are_left_alone() -> None:
    model = export(Block(24, 40), 24)
    converted, taken = use_native_linear(model, linear_nodes(model))
    assert taken == []
    assert [n.op_type for n in converted.graph.node] == [n.op_type for n in model.graph.node]


def test_packed_weights_unpack_to_their_rounding() -> None:
    matrix = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
    for per_channel in (True, False):
        packed, scale = pack_weight(matrix, per_channel=per_channel)
        unpacked = packed.transpose(1, 3, 0, 2).reshape(32, 48) * scale
        assert np.abs(unpacked - matrix).max() <= 0.5001 * scale.max()
        assert (len(np.unique(scale)) > 1) == per_channel


def test_stem_and_routers_are_put_back_after_an_export(tiny_run: Run) -> None:
    model = tiny_run.model
    before = dict(model.named_modules())
    window = torch.from_numpy(make_series(2).to_batch())
    proto = ir.to_proto(to_onnx(model, window, tiny_run.to_scores))
    assert all(module is before[name] for name, module in model.named_modules())
    assert any(isinstance(m, FilterBank) for m in before.values())
    assert any(isinstance(m, Router) for m in before.values())
    kinds = [n.op_type for n in proto.graph.node if n.domain == "edgesparse"]
    assert sorted(kinds) == sorted(
        ["FilterBank", *["BlockScores", "SparseAttention", "ValueConvolution"] * len(model.layers)]
    )
    assert "Conv" not in {n.op_type for n in proto.graph.node}


def test_native_int8_keeps_what_is_excluded(shared_bundle: Bundle) -> None:
    model = onnx.load(shared_bundle.model_path("float32"))
    first = linear_nodes(model)[1]
    converted = quantize_natively(model, nodes_to_exclude=[first])
    assert first in linear_nodes(converted)
    kinds = [n.op_type for n in converted.graph.node if n.domain == "edgesparse"]
    assert kinds.count("FeedForward") == kinds.count("Linear") == 2
    assert kinds.count("FilterBankLinear") == 1


def test_two_kinds_of_stem_in_one_file_are_refused() -> None:
    from edgesparse_export.functions.attach import attach_bodies
    from tests.support.kernels.layer_models import filter_bank, make_layer_model

    one = ir.serde.deserialize_model(make_layer_model(filter_bank(40), with_body=False))
    other = ir.serde.deserialize_model(make_layer_model(filter_bank(40, patch=2), with_body=False))
    (node,) = other.graph
    other.graph.remove(node)
    one.graph.append(node)
    with pytest.raises(ValueError, match="filter banks of one kind"):
        attach_bodies(one)
