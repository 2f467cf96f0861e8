"""`Session`: what fits, what does not, and how many threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime import onnx_model
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.session import Session, default_threads


def test_batches_do_not_change_scores(shared_bundle: Bundle, series: SeriesSet) -> None:
    session = Session(shared_bundle, precision="float32")
    np.testing.assert_allclose(
        session.predict(series, batch_size=1), session.predict(series, batch_size=36), rtol=1e-4, atol=1e-6
    )


def test_scores_are_probabilities(shared_bundle: Bundle, series: SeriesSet) -> None:
    scores = Session(shared_bundle).predict(series)
    np.testing.assert_allclose(scores.sum(-1), 1.0, atol=1e-5)


def test_auto_takes_int8_where_there_is_one(shared_bundle: Bundle) -> None:
    assert Session(shared_bundle).precision == "int8"
    assert Session(shared_bundle, precision="float32").precision == "float32"


def test_channels_are_put_in_order(shared_bundle: Bundle, series: SeriesSet) -> None:
    swapped = SeriesSet([x[::-1] for x in series.series], series.channels[::-1])
    session = Session(shared_bundle)
    np.testing.assert_array_equal(session.predict(swapped), session.predict(series))


def test_missing_values_are_taken(shared_bundle: Bundle, series: SeriesSet) -> None:
    windows = series.to_batch()
    windows[:, :, 100:130] = np.nan
    assert np.isfinite(Session(shared_bundle).predict(windows)).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((1, 3, 50)), "must have shape [batch, 2, time]; got [1, 3, 50]. The model was trained on"),
        (np.zeros(5), "must have shape [batch, 2, time]; got [5]"),
        (np.zeros((1, 2, 3)), "must have at least 8 steps; got 3"),
        (np.full((1, 2, 50), np.inf), "must be finite"),
        ([["a"]], "must be numbers"),
    ],
)
def test_what_does_not_fit_is_refused(shared_bundle: Bundle, data: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Session(shared_bundle).predict(data)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_other_channels_are_refused_by_name(shared_bundle: Bundle) -> None:
    data = SeriesSet([np.zeros((2, 50), dtype=np.float32)], ("current", "pressure"), source="x.csv")
    with pytest.raises(InputError, match=r"x\.csv must have .* current, voltage; got 2: current, pres"):
        Session(shared_bundle).predict(data)


def test_no_series_give_no_scores(shared_bundle: Bundle) -> None:
    assert Session(shared_bundle).predict(np.zeros((0, 2, 50))).shape[0] == 0


def test_a_text_file_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("this is not a model")
    with pytest.raises(BundleError, match="must be an ONNX model"):
        Session(path)
    with pytest.raises(InputError, match="no such file or folder"):
        Session(tmp_path / "none.onnx")


@pytest.mark.parametrize("arguments", [{"precision": "int4"}, {"threads": 0}])
def test_bad_arguments_are_refused(shared_bundle: Bundle, arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match="must be"):
        Session(shared_bundle, **arguments)  # type: ignore[arg-type]


def test_threads_follow_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "cgroup_quota", lambda: 1.5)
    assert default_threads() == 1
    monkeypatch.setattr(onnx_model, "cgroup_quota", lambda: None)
    assert default_threads() >= 1
