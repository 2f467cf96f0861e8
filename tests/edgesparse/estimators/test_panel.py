"""The same series in every form that `X` may have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from edgesparse.estimators.errors import InvalidInputError
from edgesparse.estimators.panel import to_series_set
from tests.edgesparse.estimators.panels import make_batch

X = make_batch(3, 20)[0]
NAMES = ("current", "voltage")


def frames() -> list[pd.DataFrame]:
    return [pd.DataFrame(x.T, columns=NAMES) for x in X]


def long_frame() -> pd.DataFrame:
    return pd.concat(frames(), keys=["c", "a", "b"], names=["series", "time"])


def nested_frame() -> pd.DataFrame:
    return pd.DataFrame({name: [pd.Series(x[i]) for x in X] for i, name in enumerate(NAMES)})


@pytest.mark.parametrize(
    ("form", "has_names"),
    [
        (X, False),
        (list(X), False),
        (X.tolist(), False),
        (np.ma.MaskedArray(X), False),
        (np.concatenate([X, np.full((3, 2, 5), np.nan)], axis=2), False),
        (frames(), True),
        (long_frame(), True),
        (nested_frame(), True),
    ],
    ids=["array", "list", "nested lists", "masked", "padded", "frames", "long frame", "nested frame"],
)
def test_every_form_is_the_same_series(form: Any, has_names: bool) -> None:
    found = to_series_set(form)
    assert found.channels == (NAMES if has_names else ("channel_0", "channel_1"))
    for x, expected in zip(found.series, X, strict=True):
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("form", [X[:, 0], pd.DataFrame(X[:, 0]), X[:, 0].tolist(), list(X[:, 0])])
def test_a_table_is_series_of_one_channel(form: Any) -> None:
    np.testing.assert_array_equal(np.stack(to_series_set(form).series), X[:, :1])


def test_lengths_may_differ_in_every_form_that_can_hold_them() -> None:
    parts = [X[0], X[1, :, :7], X[2, :, :13]]
    tables = [pd.DataFrame(x.T, columns=NAMES) for x in parts]
    nested = pd.DataFrame({name: [pd.Series(x[i]) for x in parts] for i, name in enumerate(NAMES)})
    for form in (parts, tables, pd.concat(tables, keys=range(3)), nested):
        found = to_series_set(form)
        assert [x.shape for x in found.series] == [x.shape for x in parts]


def test_sktime_reads_its_own_panels_the_same() -> None:
    datatypes = pytest.importorskip("sktime.datatypes")
    for mtype in ("nested_univ", "pd-multiindex", "df-list", "numpy3D"):
        panel = datatypes.convert_to(X, mtype)
        np.testing.assert_array_equal(np.stack(to_series_set(panel).series), X)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ([], "Expected 2D array"),
        (X[:0], "at least one series"),
        (X[None], r"\[n, channels, time\]"),
        ([X[0], X[1, :1]], "Series 1 of `X` must have 2 channel"),
        ([X[0], X[1, :, :0]], "Series 1 of `X` must have at least 1 step"),
        (X * np.float32(np.inf), "`X` must be finite"),
        (X.astype(np.float64) * 1e300, "infinity in float32"),
        (X + 1j, "complex"),
        ([x.astype(str) for x in X], "must be numbers"),
        (long_frame().iloc[::-1], "order of time; series b"),
        ([*frames()[:2], frames()[2][["current"]]], "columns of the first; series 2"),
    ],
)
def test_what_is_no_panel_is_refused_in_a_line(form: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        to_series_set(form)
    if isinstance(caught.value, InvalidInputError):
        assert "\n" not in str(caught.value)
