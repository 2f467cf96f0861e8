"""The window kernel against the float64 reference and the function body, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.kernels.pinned import Results
from tests.support.kernels.models import open_session
from tests.support.kernels.windows import (
    WINDOW_CASES,
    WindowCase,
    any_window_case,
    make_window_model,
    run_window,
)
from tests.support.tolerances import ENGINES, KERNEL_OVER_NAIVE

CASE = WindowCase("case", 131, 20, 20, b=2, masked=0.3)


def assert_near(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)


@pytest.mark.parametrize("case", WINDOW_CASES, ids=lambda case: case.name)
def test_output_equals_the_reference(library: Path, case: WindowCase) -> None:
    assert_near(run_window(library, case), case.expected())


@pytest.mark.parametrize("case", [x for x in WINDOW_CASES if x.n], ids=lambda case: case.name)
def test_the_function_body_equals_the_reference(case: WindowCase) -> None:
    assert_near(run_window(None, case), case.expected())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=any_window_case())
def test_any_call_equals_the_reference(library: Path, case: WindowCase) -> None:
    assert_near(run_window(library, case), case.expected())


@settings(max_examples=60, deadline=None)
@given(case=any_window_case(fewest=1))
def test_the_function_body_of_any_call_equals_the_reference(case: WindowCase) -> None:
    assert_near(run_window(None, case), case.expected())


def test_every_instruction_set_equals_the_reference(pinned_results: dict[str, Results]) -> None:
    for case in WINDOW_CASES:
        expected = case.expected()
        for result in pinned_results.values():
            assert_near(result[f"window/{case.name}"], expected)


@pytest.mark.parametrize("case", [x for x in WINDOW_CASES if x.n > 128], ids=lambda case: case.name)
def test_two_threads_give_the_same_bits(library: Path, case: WindowCase) -> None:
    np.testing.assert_array_equal(run_window(library, case, 1), run_window(library, case, 2))


@pytest.mark.parametrize("engine", ["kernel", "body"])
def test_what_padding_holds_is_never_read(library: Path, engine: str) -> None:
    chosen = library if engine == "kernel" else None
    clean = run_window(chosen, CASE)
    feeds = CASE.feeds()
    for name in ("key", "value"):
        feeds[name] = np.where(feeds["key_mask"][..., None], feeds[name], np.float32(np.nan))
    np.testing.assert_array_equal(run_window(chosen, CASE, feeds=feeds), clean)


def test_texts_packed_together_say_what_each_says_alone(library: Path) -> None:
    case = WindowCase("packed", 213, 30, 30, (0, 1, 64, 128, 193))
    together, feeds = run_window(library, case), case.feeds()
    for start, end in ((0, 1), (1, 64), (64, 128), (128, 193), (193, 213)):
        alone = {name: x[:, start:end] for name, x in feeds.items() if name != "starts"}
        alone["starts"] = np.array([0], dtype=np.int64)
        assert_near(together[:, start:end], run_window(library, case, feeds=alone))


def test_error_is_at_most_twice_that_of_naive_float32(library: Path) -> None:
    case = WindowCase("error", 512, d=64, v=64)
    feeds, exact = case.feeds(), case.expected()
    q, k, v = (feeds[name].reshape(512, 2, 64).transpose(1, 0, 2) for name in ("query", "key", "value"))
    logit = (q @ k.transpose(0, 2, 1)) * np.float32(0.125)
    weight = np.exp(logit - logit.max(-1, keepdims=True))
    naive = ((weight / weight.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(1, 512, 128)
    output = run_window(library, case)
    assert np.abs(output - exact).max() <= KERNEL_OVER_NAIVE * np.abs(naive - exact).max()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"left_window": -2}, "`left_window` must be from -1"),
        ({"right_window": -2}, "`right_window` must be from -1"),
        ({"kv_num_heads": 3}, "`kv_num_heads` must divide `num_heads`"),
        ({"num_heads": 5, "kv_num_heads": 1}, "a multiple of its 5 heads"),
        ({"scale": float("nan")}, "`scale` must be finite"),
    ],
)
def test_attributes_out_of_range_are_refused(library: Path, change: dict[str, float], words: str) -> None:
    model = make_window_model({**CASE.node().to_node(), **change})
    with pytest.raises(Exception, match=words):
        open_session(library, model).run(None, CASE.feeds())


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("key", np.zeros((2, 130, 32), np.float32), "the query's batch and length; got 2, 130"),
        ("value", np.zeros((1, 131, 32), np.float32), "the query's batch and length; got 1, 131"),
        ("key_mask", np.zeros((2, 130), bool), "the query's batch and length; got 2, 130"),
        ("key", np.zeros((2, 131, 16), np.float32), "must have one head size; got 16 and 8"),
        ("query", np.zeros((131, 32), np.float32), "rank"),
        ("starts", np.array([0, 9, 8], np.int64), "`starts` must rise from 0 to at most 131; got 8 after 9"),
        ("starts", np.array([-1], np.int64), "`starts` must rise from 0 to at most 131; got -1 after 0"),
        ("starts", np.array([132], np.int64), "`starts` must rise from 0 to at most 131; got 132 after 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(library: Path, name: str, array: np.ndarray, words: str) -> None:
    model = make_window_model(CASE.node().to_node(), ranked=False)
    with pytest.raises(Exception, match=words):
        open_session(library, model).run(None, {**CASE.feeds(), name: array})
