"""A causal row does not depend on later tokens: the bits in float32, within a rounding in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.kernels.cases import Case
from tests.support.kernels.models import Shape, run_kernel
from tests.support.tolerances import INT8_OF_VALUES

# Token 200 is the ninth of its block of 16; earlier rows read summaries that are packed beside its block's.
LATER = 200
CASE = Case("causal", Shape(256, 256), 16, {"is_causal": 1}, {"max_blocks": 3, "top_p": 1.0})


def run_twice(library: Path, which: str, value: float, precision: str) -> list[np.ndarray]:
    """Rows before `LATER` without and with `value` in place of that token."""
    feeds = CASE.feeds()
    clean, _ = run_kernel(library, CASE.node(precision), feeds)
    feeds[which] = feeds[which].copy()
    feeds[which][0, LATER] = value
    changed, _ = run_kernel(library, CASE.node(precision), feeds)
    assert not np.array_equal(clean[0, LATER:], changed[0, LATER:], equal_nan=True)
    return [clean[0, :LATER], changed[0, :LATER]]


@pytest.mark.parametrize("which", ["query", "key", "value"])
def test_float32_rows_keep_their_bits(library: Path, which: str) -> None:
    clean, changed = run_twice(library, which, 100.0, "float32")
    np.testing.assert_array_equal(clean, changed)


@pytest.mark.parametrize("which", ["query", "key"])
def test_int8_rows_keep_their_bits_when_queries_or_keys_change(library: Path, which: str) -> None:
    clean, changed = run_twice(library, which, 100.0, "int8")
    np.testing.assert_array_equal(clean, changed)


def test_int8_rows_move_by_a_rounding_when_a_later_value_changes(library: Path) -> None:
    """docs/reference/numerics.md: up to 64 values of a column share a scale, later ones too."""
    clean, changed = run_twice(library, "value", 4.0, "int8")
    assert np.sqrt(np.mean((clean - changed) ** 2)) <= INT8_OF_VALUES


@pytest.mark.xfail(strict=True, reason="a weight of zero times NaN is NaN: docs/reference/numerics.md")
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("which", ["key", "value"])
def test_a_later_nan_does_not_reach_earlier_rows(library: Path, which: str, precision: str) -> None:
    clean, changed = run_twice(library, which, np.nan, precision)
    np.testing.assert_array_equal(np.isnan(clean), np.isnan(changed))
