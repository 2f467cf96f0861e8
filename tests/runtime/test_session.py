"""`Session`: what fits, what does not, and how many threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse_runtime import onnx_model
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.model_inputs import WindowInputs
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


def unequal(series: SeriesSet) -> SeriesSet:
    """Series of three lengths in turn."""
    cut = [x[:, : (600, 333, 450)[i % 3]] for i, x in enumerate(series.series)]
    return series.with_series(cut)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_series_is_scored_by_itself_alone(shared_bundle: Bundle, series: SeriesSet, precision: str) -> None:
    """Case batch-padding: a longer neighbor in the file flipped decisions."""
    session = Session(shared_bundle, precision=precision)
    data = unequal(series)
    together = session.predict(data)
    alone = np.concatenate([session.predict(data.take([i])) for i in range(len(data))])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(data))
    np.testing.assert_allclose(session.predict(data.take(order)), together[order], rtol=1e-4, atol=1e-5)
    # Padded to one array, or as a list: the same series.
    np.testing.assert_array_equal(session.predict(data.to_batch()), together)
    np.testing.assert_array_equal(session.predict(list(data.series)), together)


def test_a_model_that_masks_padding_runs_in_one_batch(shared_bundle: Bundle, series: SeriesSet) -> None:
    inputs = Session(shared_bundle).inputs
    assert isinstance(inputs, WindowInputs)
    data = unequal(series)
    assert [batch.shape for _, batch in inputs.parts(data, 36)] == [(12, 2, n) for n in (600, 333, 450)]
    with pytest.raises(InputError, match="Windows must have one length"):
        inputs.batch(data)
    inputs.masks_padding = True
    assert [batch.shape for _, batch in inputs.parts(data, 36)] == [(36, 2, 600)]
    assert inputs.batch(data).shape == (36, 2, 600)


def test_a_mask_is_a_missing_value(shared_bundle: Bundle, series: SeriesSet) -> None:
    session = Session(shared_bundle)
    gap = series.to_batch()[:2]
    bad = gap.copy()
    gap[:, :, 10:20], bad[:, :, 10:20] = np.nan, -9999.0
    np.testing.assert_array_equal(session.predict(np.ma.masked_equal(bad, -9999.0)), session.predict(gap))
    objects = np.where(np.isnan(gap), None, gap)
    np.testing.assert_array_equal(session.predict(objects), session.predict(gap))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((1, 2, 50), dtype="M8[s]"), "must be numbers [batch, channels, time]; got datetime64[s]."),
        (np.zeros((1, 2, 50), dtype=complex), "got complex128."),
        (np.full((1, 2, 50), "1"), "got <U1."),
        ("pump.csv", "got a path. Read files with read_dataset."),
        (Path("pump.csv"), "got a path. Read files with read_dataset."),
        ([[1.0, 2.0], [1.0]], "its rows have different lengths."),
        (np.full((1, 2, 50), {}, dtype=object), "got objects."),
        (torch.zeros(1, 2, 50, requires_grad=True), "requires grad"),
        (np.full((1, 2, 50), 1e300), "must be finite"),
        ({"window": np.zeros((1, 2, 50))}, "takes windows [batch, channels, time]; got named arrays."),
    ],
)
def test_what_is_no_array_of_numbers_ends_in_one_sentence(
    shared_bundle: Bundle, data: object, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        Session(shared_bundle).predict(data)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_size(shared_bundle: Bundle, series: SeriesSet, size: int) -> None:
    with pytest.raises(InputError, match=f"`batch_size` must be at least 1; got {size}."):
        Session(shared_bundle).predict(series, batch_size=size)


def test_decisions_have_names(shared_bundle: Bundle, series: SeriesSet) -> None:
    session = Session(shared_bundle)
    assert session.classes == ("fast", "slow")
    assert series.labels is not None
    assert session.predict_labels(series).tolist() == series.labels.tolist()
    bare = Session("m.onnx", content=session.read_model())
    assert bare.classes == ()
    with pytest.raises(InputError, match=r"m\.onnx has no class names"):
        bare.predict_labels(series)


def test_labels_may_be_a_list() -> None:
    data = SeriesSet([np.zeros((1, 3), dtype=np.float32)] * 2, ("v",), ["a", "b"])  # type: ignore[arg-type]
    assert data.take([1]).labels.tolist() == ["b"]  # type: ignore[union-attr]
