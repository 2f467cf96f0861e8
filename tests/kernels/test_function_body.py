"""The kernel against the function body in one file: the same output within ENGINES, the same selection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.kernels.body_model import make_model_with_body
from tests.support.kernels.cases import CASES, Case, any_case
from tests.support.kernels.models import open_session
from tests.support.tolerances import ENGINES

PARITY = [case for case in CASES if case.shape.n and case.shape.m and case.name != "huge_window"]


# The body computes all pairs of query and key, or those of kept blocks.
any_way = pytest.mark.parametrize("short", [0, 1 << 40], ids=["gathered", "whole"])


def check(library: Path, case: Case, short: int) -> None:
    model, feeds = make_model_with_body(asdict(case.node()), short=short), case.feeds()
    output, selection = open_session(library, model).run(None, feeds)
    expected, expected_selection = open_session(None, model).run(None, feeds)
    np.testing.assert_array_equal(selection, expected_selection)
    np.testing.assert_allclose(output, expected, rtol=ENGINES.relative, atol=ENGINES.absolute)


@pytest.mark.parametrize("case", PARITY, ids=lambda case: case.name)
@any_way
def test_kernel_equals_function_body(library: Path, case: Case, short: int) -> None:
    check(library, case, short)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=any_case(fewest=1))
@any_way
def test_any_attributes_give_what_the_function_body_gives(library: Path, case: Case, short: int) -> None:
    check(library, case, short)
