"""The kernel of the sampled router against its twin in PyTorch, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.kernels.pinned import Results
from tests.support.kernels.layer_models import make_layer_model
from tests.support.kernels.models import open_session
from tests.support.kernels.sampled import SAMPLED_CASES, SampledCase, any_sampled_case, run_sampled
from tests.support.tolerances import ENGINES

CASE = SampledCase("case", 131, b=2, causal=True, masked=0.3)
# Where a block has next to none of the mass, its logarithm says how little; below this nobody asks.
LEAST = -40.0


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(np.isneginf(actual), np.isneginf(expected))
    actual, expected = np.maximum(actual, LEAST), np.maximum(expected, LEAST)
    np.testing.assert_allclose(actual, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)


@pytest.mark.parametrize("case", SAMPLED_CASES, ids=lambda case: case.name)
def test_scores_equal_the_twin(library: Path, case: SampledCase) -> None:
    assert_near(run_sampled(library, case), case.expected())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=any_sampled_case())
def test_any_call_equals_the_twin(library: Path, case: SampledCase) -> None:
    assert_near(run_sampled(library, case), case.expected())


def test_every_instruction_set_equals_the_twin(pinned_results: dict[str, Results]) -> None:
    for case in SAMPLED_CASES:
        expected = case.expected()
        for result in pinned_results.values():
            assert_near(result[f"sampled/{case.name}"], expected)


@pytest.mark.parametrize("case", [x for x in SAMPLED_CASES if x.n > 128], ids=lambda case: case.name)
def test_two_threads_give_the_same_bits(library: Path, case: SampledCase) -> None:
    np.testing.assert_array_equal(run_sampled(library, case, 1), run_sampled(library, case, 2))


def test_what_is_padding_does_not_matter(library: Path) -> None:
    feeds = CASE.feeds()
    hidden = ~feeds["key_mask"]
    changed = {name: x.copy() for name, x in feeds.items()}
    changed["query"][hidden], changed["key"][hidden] = 1e6, np.nan
    np.testing.assert_array_equal(run_sampled(library, CASE, feeds=changed), run_sampled(library, CASE))


def test_nothing_in_gives_nothing_out(library: Path) -> None:
    assert run_sampled(library, replace(CASE, n=0)).size == 0
    assert run_sampled(library, replace(CASE, b=0)).size == 0


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("query", np.zeros((2, 131, 63), np.float32), "a multiple of its 4 heads; got 63"),
        ("key", np.zeros((2, 130, 32), np.float32), "`key` must have shape [2, 131, 32]"),
        ("key", np.zeros((2, 131, 64), np.float32), "`key` must have shape [2, 131, 32]"),
        ("key_mask", np.ones((2, 130), bool), "`key_mask` must have shape [2, 131]"),
        ("key_mask", np.ones((2, 131, 1), bool), "`key_mask` must have rank 2"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(library: Path, name: str, array: np.ndarray, words: str) -> None:
    node = CASE.node()
    changed = replace(node, feeds={**node.feeds, name: array})
    session = open_session(library, make_layer_model(changed, with_body=False, ranked=False))
    with pytest.raises(Exception, match=r".") as raised:
        session.run(None, changed.feeds)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_num_heads": 3}, "`kv_num_heads` must divide `num_heads`"),
        ({"block_size": 0}, "`block_size` must be from 1"),
        ({"queries": 17}, "`queries` must be from 1 to 16; got 17"),
        ({"queries": 5000, "block_size": 8192}, "`queries` must be from 1 to 4096; got 5000"),
        ({"scale": float("nan")}, "`scale` must be finite"),
        ({"is_causal": 2}, "`is_causal` must be from 0 to 1"),
    ],
)
def test_attributes_out_of_range_are_refused(library: Path, change: dict[str, object], words: str) -> None:
    node = CASE.node()
    changed = replace(node, attributes={**node.attributes, **change})
    with pytest.raises(Exception, match=r".") as raised:
        open_session(library, make_layer_model(changed, with_body=False)).run(None, changed.feeds)
    assert words in str(raised.value)
