"""The kernel against the float64 reference."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray

from tests.support.kernels.cases import CASES, Case, any_case
from tests.support.kernels.models import Shape, make_feeds, make_model, open_session, run_kernel
from tests.support.kernels.reference import Attributes, sparse_attention
from tests.support.tolerances import ENGINES, INT8_OF_VALUES, INT8_RMS, KERNEL_OVER_NAIVE, SELECTION_EDGE


def check(library: Path, case: Case, threads: int = 1) -> None:
    feeds = case.feeds()
    output, selection = run_kernel(library, case.node(), feeds, threads)
    expected, expected_selection = sparse_attention(**feeds, attributes=case.node())
    on_edge = rows_on_edge(case, selection, expected_selection)
    np.testing.assert_array_equal(selection[~on_edge], expected_selection[~on_edge])
    # [B, H, NQ] blocks to [B, N, H * V] outputs.
    skipped = np.repeat(on_edge.swapaxes(1, 2), case.block_size, axis=1)[:, : output.shape[1]]
    skipped = np.repeat(skipped, case.shape.v, axis=2)
    np.testing.assert_allclose(
        output[~skipped], expected[~skipped], rtol=ENGINES.relative, atol=ENGINES.absolute
    )


def rows_on_edge(case: Case, selection: NDArray[np.bool_], expected: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows [B, H, NQ] that rightly differ: within rounding of `top_p` (docs/reference/numerics.md).

    Such a row is what the reference chooses when `top_p` is that rounding lower or higher.
    """
    on_edge = (selection != expected).any(-1)
    if on_edge.any():
        near = np.zeros_like(on_edge)
        for shift in (-SELECTION_EDGE, SELECTION_EDGE):
            feeds = case.feeds()
            feeds["top_p"] = feeds["top_p"] + np.float32(shift)
            _, chosen = sparse_attention(**feeds, attributes=case.node())
            near |= (selection == chosen).all(-1)
        on_edge &= near
    return on_edge


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_output_and_selection_equal_the_reference(library: Path, case: Case) -> None:
    check(library, case)


@pytest.mark.slow
def test_long_input_equals_the_reference(library: Path) -> None:
    check(
        library, Case("long", Shape(8192, 8192, h=1, g=1, d=32, v=32), 64, {"window": 1}, {"max_blocks": 8})
    )


@pytest.mark.parametrize("block_size", [16, 64])
def test_two_threads_give_the_same_bits(library: Path, block_size: int) -> None:
    case = Case("threads", Shape(500, 500, h=4, g=2, b=2), block_size, {"is_causal": 1}, {"masked": 0.1})
    one, _ = run_kernel(library, case.node(), case.feeds(), 1)
    two, _ = run_kernel(library, case.node(), case.feeds(), 2)
    np.testing.assert_array_equal(one, two)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=any_case())
def test_any_attributes_equal_the_reference(library: Path, case: Case) -> None:
    check(library, case)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=any_case())
def test_any_attributes_in_int8_come_near_the_reference(library: Path, case: Case) -> None:
    feeds = case.feeds()
    output, selection = run_kernel(library, case.node("int8"), feeds)
    expected, expected_selection = sparse_attention(**feeds, attributes=case.node())
    on_edge = rows_on_edge(case, selection, expected_selection)
    np.testing.assert_array_equal(selection[~on_edge], expected_selection[~on_edge])
    if on_edge.any():
        return
    # Against the size of the values: an output is small where values cancel, a rounding is not.
    assert np.sqrt(np.sum((output - expected) ** 2) / max(1, output.size)) <= INT8_OF_VALUES


def test_ties_go_to_the_lower_index(library: Path) -> None:
    attributes = Attributes(num_heads=1, kv_num_heads=1)
    feeds = make_feeds(Shape(160, 160, h=1, g=1), 16, top_p=1.0, max_blocks=4)
    feeds["block_scores"] = np.zeros_like(feeds["block_scores"])
    _, selection = run_kernel(library, attributes, feeds)
    assert selection[0, 0, 7].nonzero()[0].tolist() == [0, 1, 2, 7]
    assert selection[0, 0, 1].nonzero()[0].tolist() == [0, 1, 2, 3]


def test_scores_that_are_not_finite_select_by_the_rules(library: Path) -> None:
    attributes = Attributes(num_heads=1, kv_num_heads=1)
    feeds = make_feeds(Shape(96, 96, h=1, g=1), 16, top_p=0.9, max_blocks=6)
    inf, nan = np.inf, np.nan
    feeds["block_scores"] = np.array(
        [
            [nan, inf, 1, inf, -inf, 0],
            [nan] * 6,
            [-inf] * 6,
            [inf] * 6,
            [1, 2, nan, 3, 4, 5],
            [3e38, 3.4e38, 0, 0, 0, 0],
        ],
        dtype=np.float32,
    )[None, None]
    output, selection = run_kernel(library, attributes, feeds)
    expected, expected_selection = sparse_attention(**feeds, attributes=attributes)
    np.testing.assert_array_equal(selection, expected_selection)
    np.testing.assert_allclose(output, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)


def test_nan_top_p_keeps_the_window_alone(library: Path) -> None:
    feeds = make_feeds(Shape(96, 96), 16, top_p=np.nan, max_blocks=6)
    _, selection = run_kernel(library, Attributes(num_heads=2, kv_num_heads=2), feeds)
    np.testing.assert_array_equal(selection[0, 0], np.eye(6, dtype=bool))


def test_top_p_of_each_head_is_used(library: Path) -> None:
    attributes = Attributes(num_heads=2, kv_num_heads=2)
    feeds = make_feeds(Shape(160, 160), 16, max_blocks=10)
    feeds["top_p"] = np.array([0.2, 0.9], dtype=np.float32)
    output, selection = run_kernel(library, attributes, feeds)
    expected, expected_selection = sparse_attention(**feeds, attributes=attributes)
    np.testing.assert_array_equal(selection, expected_selection)
    np.testing.assert_allclose(output, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)
    assert selection[0, 0].sum() < selection[0, 1].sum()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("which", ["query", "key", "value"])
def test_a_poisoned_token_spoils_only_what_reads_it(
    library: Path, which: str, poison: float, precision: str
) -> None:
    case = Case("poison", Shape(128, 128), 16, {"summaries": 0})
    feeds = case.feeds()
    node = case.node(precision)
    clean, selection = run_kernel(library, node, feeds)
    feeds[which] = feeds[which].copy()
    feeds[which][0, 40] = poison
    spoilt, same_selection = run_kernel(library, node, feeds)
    np.testing.assert_array_equal(selection, same_selection)
    heads = spoilt.reshape(1, 8, 16, 2, 16)
    expected = clean.reshape(1, 8, 16, 2, 16)
    for h in range(2):
        for i in range(8):
            reads = i == 2 if which == "query" else selection[0, h, i, 2]
            if reads:
                continue
            if which == "key" and precision == "int8":
                # All keys of a head are shifted by one estimate of their mean before they are rounded: a
                # poisoned key moves the roundings of the others, within int8's error, and nothing else.
                assert np.isfinite(heads[0, i, :, h]).all()
                error = np.sqrt(np.mean((heads[0, i, :, h] - expected[0, i, :, h]) ** 2))
                assert error <= INT8_RMS * np.sqrt(np.mean(expected[0, i, :, h] ** 2))
            else:
                np.testing.assert_array_equal(heads[0, i, :, h], expected[0, i, :, h])


def test_poison_in_padding_changes_nothing(library: Path) -> None:
    case = Case("padding", Shape(128, 128), 16, {}, {"masked": 0.3})
    feeds = case.feeds()
    clean, _ = run_kernel(library, case.node(), feeds)
    for which in ("key", "value"):
        feeds[which] = np.where(feeds["key_mask"][..., None], feeds[which], np.float32(np.nan))
    spoilt, _ = run_kernel(library, case.node(), feeds)
    np.testing.assert_array_equal(clean, spoilt)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("offset", [1, 3])
def test_unaligned_inputs(library: Path, offset: int, precision: str) -> None:
    case = Case("unaligned", Shape(70, 70, d=24, v=24))
    feeds = case.feeds()
    expected, _ = run_kernel(library, case.node(precision), feeds)
    for name in ("query", "key", "value", "block_scores"):
        room = np.empty(feeds[name].size + offset, dtype=np.float32)
        room[offset:] = feeds[name].ravel()
        feeds[name] = room[offset:].reshape(feeds[name].shape)
        # onnxruntime reads a contiguous array where it lies.
        assert feeds[name].flags.c_contiguous
        assert feeds[name].ctypes.data % 16 != 0
    room = np.empty(feeds["key_mask"].size + 1, dtype=bool)
    room[1:] = feeds["key_mask"].ravel()
    feeds["key_mask"] = room[1:].reshape(feeds["key_mask"].shape)
    output, _ = run_kernel(library, case.node(precision), feeds)
    np.testing.assert_array_equal(output, expected)


def test_selection_is_optional(library: Path) -> None:
    case = Case("optional", Shape(70, 70))
    expected, _ = run_kernel(library, case.node(), case.feeds())
    session = open_session(library, make_model(asdict(case.node()), with_selection=False))
    (output,) = session.run(None, case.feeds())
    np.testing.assert_array_equal(output, expected)


def test_error_is_at_most_twice_that_of_naive_float32(library: Path) -> None:
    """docs/reference/numerics.md for float kernels, on dense attention where naive is unambiguous."""
    for seed in range(3):
        case = Case("error", Shape(512, 512, h=2, g=2, d=64, v=64), 64, {}, {"top_p": 1.0, "max_blocks": 99})
        case = replace(case, draw={**case.draw, "seed": seed})
        feeds = case.feeds()
        output, _ = run_kernel(library, case.node(), feeds)
        exact, _ = sparse_attention(**feeds, attributes=case.node())
        q, k, v = (feeds[name].reshape(512, 2, 64).transpose(1, 0, 2) for name in ("query", "key", "value"))
        logit = (q @ k.transpose(0, 2, 1)) * np.float32(0.125)
        weight = np.exp(logit - logit.max(-1, keepdims=True))
        naive = ((weight / weight.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(1, 512, 128)
        assert np.abs(output - exact).max() <= KERNEL_OVER_NAIVE * np.abs(naive - exact).max()
        ours, theirs = (np.sqrt(np.mean((x - exact) ** 2)) for x in (output, naive))
        assert ours <= KERNEL_OVER_NAIVE * theirs
