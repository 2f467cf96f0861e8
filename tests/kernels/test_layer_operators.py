"""The operators around attention: kernel against function body, instruction sets, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.kernels.pinned import Results
from tests.support.kernels import layer_models
from tests.support.kernels.layer_models import FLOAT, LINEAR, Node, make_layer_model, run_layer
from tests.support.kernels.models import open_session
from tests.support.tolerances import ENGINES, INT8_LINEAR_RMS


def by_name(node: Node) -> str:
    return node.name


@pytest.mark.parametrize("node", FLOAT, ids=by_name)
@pytest.mark.parametrize("threads", [1, 2])
def test_float_kernels_equal_their_bodies(library: Path, node: Node, threads: int) -> None:
    expected = run_layer(None, node)
    actual = run_layer(library, node, threads)
    np.testing.assert_allclose(actual, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)


@pytest.mark.parametrize("node", LINEAR, ids=by_name)
@pytest.mark.parametrize("threads", [1, 2])
def test_int8_linear_is_near_its_body(library: Path, node: Node, threads: int) -> None:
    """Of the output without bias and residual, which would hide the error."""
    hiding = {"bias", "down_bias", "residual"} & set(node.feeds)
    node = replace(node, feeds={**node.feeds, **{name: node.feeds[name] * 0 for name in hiding}})
    expected, actual = run_layer(None, node), run_layer(library, node, threads)
    error = float(np.sqrt(np.mean((actual - expected) ** 2)))
    assert error <= INT8_LINEAR_RMS * float(np.sqrt(np.mean(expected**2)))


def test_linear_with_whole_numbers_is_exact(library: Path) -> None:
    """Rows whose step is 1 lose nothing: the product of bytes is exact, saturating nowhere."""
    draw = np.random.default_rng(0)
    x = draw.integers(-128, 128, (1, 9, 64)).astype(np.float32)
    x[..., 0], x[..., 1] = -128, 127
    weight = draw.choice([-127, 127], (64, 32)).astype(np.float32)
    packed, scale = layer_models.pack_weight(weight)
    node = layer_models.linear(9, 64, 32, batch=1)
    feeds = {**node.feeds, "x": x, "weight": packed, "scale": scale, "bias": np.zeros(32, np.float32)}
    np.testing.assert_array_equal(run_layer(library, replace(node, feeds=feeds)), x @ weight)


def test_a_row_that_is_not_finite_spoils_itself_alone(library: Path) -> None:
    node = layer_models.linear(20, 64, 64, batch=1, normalize=1)
    x = node.feeds["x"].copy()
    x[0, 3, 5], x[0, 7, 0] = np.nan, np.inf
    clean, spoiled = run_layer(library, node), run_layer(library, replace(node, feeds={**node.feeds, "x": x}))
    rows = np.isin(np.arange(20), (3, 7))
    assert np.isnan(spoiled[0, rows]).all()
    np.testing.assert_array_equal(spoiled[0, ~rows], clean[0, ~rows])


def test_every_instruction_set_gives_the_same_bits(pinned_results: dict[str, Results]) -> None:
    for isa, result in pinned_results.items():
        for node in LINEAR + FLOAT:
            name = f"layer/{node.name}"
            assert result[name].tobytes() == pinned_results["scalar"][name].tobytes(), (isa, name)


@pytest.mark.parametrize("node", [FLOAT[1], LINEAR[11]], ids=by_name)
def test_the_old_names_of_the_filter_banks_have_the_same_bits(library: Path, node: Node) -> None:
    """Files made when they were called `KernelBank` and `KernelBankLinear`, with and without their bodies."""
    expected = run_layer(library, node)
    for with_body in (True, False):
        model = make_layer_model(node, with_body=with_body)
        for named in (*model.graph.node, *model.functions):
            old = node.op_type.replace("Filter", "Kernel")
            if isinstance(named, onnx.NodeProto):
                named.op_type = old
            elif named.name == node.op_type:
                named.name = old
        (output,) = open_session(library, model).run(None, node.feeds)
        assert output.tobytes() == expected.tobytes()


REFUSED = [
    (LINEAR[1], "x", np.zeros((2, 63, 64), np.float32), "`weight` must have shape [columns / 16, 16, 16, 4]"),
    (LINEAR[1], "x", np.zeros((2, 63, 120), np.float32), "a multiple of 16"),
    (LINEAR[1], "bias", np.zeros(5, np.float32), "`bias` must have 384 values; got 5"),
    (LINEAR[1], "gain", np.zeros(1, np.float32), "`gain` must have 128 values; got 1"),
    (LINEAR[4], "residual", np.ones((2, 6, 128), np.float32), "`residual` must have the output's shape"),
    (
        LINEAR[9],
        "down",
        np.zeros((8, 16, 16, 4), np.int8),
        "`down` must have shape [columns / 16, 64, 16, 4]",
    ),
    (LINEAR[9], "up_bias", np.zeros(5, np.float32), "`up_bias` must have 256 values; got 5"),
    (LINEAR[9], "shift", np.zeros(5, np.float32), "`shift` must have 128 values; got 5"),
    (LINEAR[9], "residual", np.zeros((2, 5, 128), np.float32), "`residual` must have the output's shape"),
    (
        LINEAR[11],
        "matrix",
        np.zeros((8, 5, 16, 4), np.int8),
        "`matrix` must have shape [columns / 16, 56, 16, 4]",
    ),
    (LINEAR[11], "bias", np.zeros(5, np.float32), "`bias` must have 128 values; got 5"),
    (FLOAT[1], "weight", np.zeros((2, 28, 2, 9), np.float32), "`weight` must have shape [2, filters, 1, 9]"),
    (FLOAT[1], "center", np.zeros(3, np.float32), "`center` must have 224 values; got 3"),
    (FLOAT[1], "real", np.ones((2, 5), bool), "`real` must have shape [2, 203]"),
    (FLOAT[6], "key", np.zeros((2, 99, 64), np.float32), "`key` must have shape [2, 100, 64]"),
    (FLOAT[6], "key_weight", np.zeros((4, 16, 16), np.float32), "`key_weight` must have shape [4, 48, 16]"),
    (FLOAT[6], "key_mask", np.ones((2, 99), bool), "`key_mask` must have shape [2, 100]"),
    (FLOAT[11], "value", np.zeros((2, 130, 41), np.float32), "must have one shape"),
    (FLOAT[11], "weight", np.zeros((2, 40), np.float32), "`weight` must have shape [taps above 2, 40]"),
    (FLOAT[14], "weight", np.zeros((2, 128, 2, 9), np.float32), "`weight` must have shape [2, 128, 1, 9]"),
    (FLOAT[14], "sharpness", np.zeros((3, 16), np.float32), "`sharpness` must have shape [2, groups]"),
    (FLOAT[14], "real", np.ones((2, 5), bool), "`real` must have shape [2, 203]"),
]


@pytest.mark.parametrize(("node", "name", "array", "words"), REFUSED)
def test_inputs_that_do_not_fit_are_refused(
    library: Path, node: Node, name: str, array: np.ndarray, words: str
) -> None:
    changed = replace(node, feeds={**node.feeds, name: array})
    session = open_session(library, make_layer_model(changed, with_body=False, ranked=False))
    with pytest.raises(Exception, match=r".") as raised:
        session.run(None, changed.feeds)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("node", "change", "words"),
    [
        (LINEAR[1], {"normalize": 2}, "`normalize` must be from 0 to 1; got 2"),
        (LINEAR[1], {"epsilon": -1.0}, "`epsilon` must be finite"),
        (LINEAR[9], {"epsilon": float("nan")}, "`epsilon` must be finite"),
        (FLOAT[1], {"dilations": [0, 4]}, "`dilations` must be from 1"),
        (FLOAT[1], {"dilations": [1] * 65}, "`dilations` must hold 1 to 64"),
        (FLOAT[1], {"patch": 0}, "`patch` must be from 1"),
        (FLOAT[6], {"kv_num_heads": 3}, "`kv_num_heads` must divide `num_heads`"),
        (FLOAT[11], {"before": -1}, "`before` must be from 0"),
        (FLOAT[14], {"dilations": [1 << 21, 4]}, "`dilations` must be from 1"),
    ],
)
def test_attributes_out_of_range_are_refused(
    library: Path, node: Node, change: dict[str, object], words: str
) -> None:
    changed = replace(node, attributes={**node.attributes, **change})
    with pytest.raises(Exception, match=r".") as raised:
        open_session(library, make_layer_model(changed, with_body=False)).run(None, changed.feeds)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "node", [LINEAR[1], LINEAR[9], LINEAR[11], FLOAT[1], FLOAT[6], FLOAT[11], FLOAT[14]], ids=by_name
)
def test_a_wrong_rank_is_refused(library: Path, node: Node) -> None:
    for name, array in node.feeds.items():
        changed = replace(node, feeds={**node.feeds, name: array[None, None, None]})
        session = open_session(library, make_layer_model(changed, with_body=False, ranked=False))
        with pytest.raises(Exception, match=rf"`{name}` must have rank"):
            session.run(None, changed.feeds)


@pytest.mark.parametrize(
    "node",
    [
        layer_models.linear(0, 32, 32),
        layer_models.feed_forward(0, 32, 32),
        layer_models.filter_bank_linear(layer_models.filter_bank(0), 16),
        layer_models.filter_bank(0),
        layer_models.block_scores(0, 16),
        layer_models.value_convolution(0, 16),
    ],
    ids=by_name,
)
def test_nothing_in_gives_nothing_out(library: Path, node: Node) -> None:
    assert run_layer(library, node).size == 0
