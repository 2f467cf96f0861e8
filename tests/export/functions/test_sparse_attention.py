"""The ONNX function body against the torch reference, in onnxruntime and in onnx.reference."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.reference import sparse_attention
from edgesparse.attention.selection import block_count
from edgesparse_export.functions.domain import DOMAIN
from edgesparse_export.functions.sparse_attention import SHORT, function_body
from tests.support.tolerances import ENGINES

INPUTS = ["query", "key", "value", "block_scores", "top_p", "max_blocks", "key_mask"]
Arrays = dict[str, npt.NDArray[np.generic]]


# Two query heads per key/value head.
GROUPED = Attributes(num_heads=4, kv_num_heads=2, scale=0.3, window=1)


# The body's two ways: all pairs of query and key, or kept blocks only. Unless told, SHORT decides.
WAYS = {"whole": 1 << 40, "gathered": 0}
any_way = pytest.mark.parametrize("way", WAYS)


def one_node_model(attributes: Attributes, way: str = "", *, same_tokens: bool = False) -> onnx.ModelProto:
    """A graph of one SparseAttention node, with its body."""
    body = function_body(same_tokens=same_tokens, short=WAYS[way] if way else SHORT)
    node = helper.make_node(
        "SparseAttention",
        INPUTS,
        ["output", "selection"],
        domain=DOMAIN,
        **attributes.to_node(),
    )
    kinds = [TensorProto.FLOAT] * 5 + [TensorProto.INT64, TensorProto.BOOL]
    ranks = [3, 3, 3, 4, 1, 1, 2]
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(name, kind, [f"{name}_{i}" for i in range(rank)])
            for name, kind, rank in zip(INPUTS, kinds, ranks, strict=True)
        ],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("selection", TensorProto.BOOL, None),
        ],
    )
    return helper.make_model(
        graph,
        functions=[ir.serde.serialize_function(body)],
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )


@cache
def session(attributes: Attributes, way: str = "", same_tokens: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = one_node_model(attributes, way, same_tokens=same_tokens)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def example(
    attributes: Attributes, length: int, *, seed: int = 0, keep: float = 0.8
) -> dict[str, torch.Tensor]:
    """Random inputs: one series whole, one with holes, one that is all padding."""
    g = torch.Generator().manual_seed(seed)
    heads, groups, size, value_size = attributes.num_heads, attributes.kv_num_heads, 8, 6
    blocks = block_count(length, attributes.block_size)
    mask = torch.rand(3, length, generator=g) < keep
    mask[0], mask[2] = True, False
    return {
        "query": torch.randn(3, length, heads * size, generator=g),
        "key": torch.randn(3, length, groups * size, generator=g),
        "value": torch.randn(3, length, groups * value_size, generator=g),
        "block_scores": torch.randn(3, heads, blocks, blocks, generator=g),
        "top_p": torch.linspace(0.2, 1.0, heads),
        "max_blocks": torch.tensor([4]),
        "key_mask": mask,
    }


def reference(attributes: Attributes, x: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    wide = {name: x[name].double() for name in ("query", "key", "value")}
    return sparse_attention(*(x | wide).values(), attributes=attributes)


def arrays(x: dict[str, torch.Tensor]) -> Arrays:
    return {name: value.numpy() for name, value in x.items()}


def check(attributes: Attributes, x: dict[str, torch.Tensor], way: str, *, same_tokens: bool = False) -> None:
    output, selection = session(attributes, way, same_tokens).run(None, arrays(x))
    expected, expected_selection = reference(attributes, x)
    np.testing.assert_array_equal(selection, expected_selection.numpy())
    np.testing.assert_allclose(output, expected.numpy(), rtol=ENGINES.relative, atol=ENGINES.absolute)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 65, 131])
@pytest.mark.parametrize("is_causal", [0, 1])
@pytest.mark.parametrize("summaries", [0, 1])
@any_way
def test_equals_the_reference(length: int, is_causal: int, summaries: int, way: str) -> None:
    attributes = replace(GROUPED, is_causal=is_causal, summaries=summaries)
    check(attributes, example(attributes, length), way)


@any_way
@pytest.mark.parametrize("same_tokens", [False, True])
@pytest.mark.parametrize("is_causal", [0, 1])
def test_the_body_for_the_same_tokens_equals_the_reference(
    way: str, same_tokens: bool, is_causal: int
) -> None:
    attributes = replace(GROUPED, is_causal=is_causal)
    check(attributes, example(attributes, 53), way, same_tokens=same_tokens)


@any_way
def test_queries_may_be_others_than_keys(way: str) -> None:
    attributes = GROUPED
    x = example(attributes, 53)
    blocks = block_count(21, attributes.block_size)
    x |= {"query": x["query"][:, :21], "block_scores": x["block_scores"][:, :, :blocks]}
    check(attributes, x, way)


@pytest.mark.parametrize("length", [127, 128, 129])
def test_the_way_changes_with_the_length(length: int) -> None:
    """Nothing but time and the last bits differ, and the session takes one way or the other."""
    attributes = replace(GROUPED, block_size=8)
    x = arrays(example(attributes, length))
    outputs = {way: session(attributes, way).run(None, x)[0] for way in ("", *WAYS)}
    taken, other = ("whole", "gathered") if length * length <= SHORT else ("gathered", "whole")
    np.testing.assert_array_equal(outputs[""], outputs[taken])
    assert (outputs[""] != outputs[other]).any()


@any_way
def test_what_padding_holds_is_not_seen(way: str) -> None:
    attributes = GROUPED
    x = example(attributes, 53)
    clean = session(attributes, way).run(None, arrays(x))
    for name in ("key", "value"):
        x[name][~x["key_mask"]] = 1e9
    spoilt = session(attributes, way).run(None, arrays(x))
    for expected, found in zip(clean, spoilt, strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(1, 1, 1), (4, 2, 8), (6, 6, 5), (4, 1, 32)]),
    flags=st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]),
    window=st.integers(0, 2),
    length=st.integers(1, 80),
    max_blocks=st.integers(0, 9),
    seed=st.integers(0, 10_000),
)
@any_way
def test_equals_the_reference_anywhere(
    way: str,
    shape: tuple[int, int, int],
    flags: tuple[int, int],
    window: int,
    length: int,
    max_blocks: int,
    seed: int,
) -> None:
    heads, groups, block_size = shape
    attributes = Attributes(heads, groups, block_size, 0.3, window, summaries=flags[0], is_causal=flags[1])
    x = example(attributes, length, seed=seed)
    x["max_blocks"] = torch.tensor([max_blocks])
    check(attributes, x, way)


@pytest.mark.parametrize("is_causal", [0, 1])
@any_way
def test_onnx_reference_evaluator_runs_the_body(is_causal: int, way: str) -> None:
    attributes = replace(GROUPED, is_causal=is_causal)
    x = example(attributes, 37, keep=1.1)
    # The evaluator warns about infinities that the rule uses on purpose.
    with np.errstate(all="ignore"):
        output, selection = ReferenceEvaluator(one_node_model(attributes, way)).run(None, arrays(x))
    expected, expected_selection = reference(attributes, x)
    np.testing.assert_array_equal(selection, expected_selection.numpy())
    np.testing.assert_allclose(output[:2], expected.numpy()[:2], rtol=1e-4, atol=1e-5)


@any_way
def test_odd_scores_and_top_p_are_survived(way: str) -> None:
    attributes = GROUPED
    x = example(attributes, 70)
    x["block_scores"][0, 0, 0] = torch.tensor([np.nan, np.inf, 0.0, -np.inf, 1.0])
    x["block_scores"][1, 1] = -np.inf
    x["top_p"] = torch.tensor([0.5, 2.0, 0.0, float("nan")])
    check(attributes, x, way)


@any_way
def test_one_top_p_serves_all_heads(way: str) -> None:
    attributes = GROUPED
    x = example(attributes, 70)
    x["top_p"] = torch.tensor([0.6])
    check(attributes, x, way)
