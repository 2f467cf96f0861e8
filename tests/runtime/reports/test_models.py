"""Labels, columns, lengths and sensors that a model meets; docs/reports.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.for_model import read_for_model
from edgesparse_runtime.data.sensors.input_check import check_input
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.evaluation.evaluate import evaluate, known_labels
from edgesparse_runtime.session import Session


@pytest.fixture(scope="module")
def session(shared_bundle: Bundle) -> Session:
    return Session(shared_bundle, precision="float32", threads=1)


@pytest.fixture(scope="module")
def some(series: SeriesSet) -> SeriesSet:
    return series.take(range(6))


def write(folder: Path, data: SeriesSet, order: tuple[str, ...], extra: str = "") -> Path:
    """A table whose columns come in this order."""
    names = ("series", *order) + ((extra,) if extra else ())
    lines = [",".join(names)]
    for i, x in enumerate(data.series):
        cells = {name: row for name, row in zip(data.channels, x, strict=True)}
        for step in range(x.shape[1]):
            values = [f"{cells[name][step]:.9g}" if name in cells else "7" for name in names[1:]]
            lines.append(",".join([str(i), *values]))
    path = folder / "x.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_labels_and_scores_have_one_order(session: Session, some: SeriesSet) -> None:
    """thuml/Time-Series-Library#570, amaiya/ktrain#277: which output is which label."""
    assert session.classes == ("fast", "slow")
    scores = session.predict(some)
    assert some.labels is not None
    names = [session.classes[i] for i in scores.argmax(-1)]
    assert session.predict_labels(some).tolist() == names == some.labels.tolist()


@pytest.mark.parametrize(
    "order",
    [
        # imbs-hl/ranger#95, openml/automlbenchmark#161
        pytest.param([0, 1, 2, 3, 4, 5], id="as they come"),
        pytest.param([1, 0, 3, 2, 5, 4], id="the other class first"),
        pytest.param([0, 2, 4], id="one class only"),
    ],
)
def test_accuracy_does_not_depend_on_which_label_comes_first(
    session: Session, some: SeriesSet, order: list[int]
) -> None:
    assert evaluate(session, some.take(order)).metrics[0].value == 1.0


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.str_, object])
def test_labels_that_are_numbers(kind: type) -> None:
    """imbs-hl/ranger#95: classes 10 and 9, as numbers or as text."""
    labels = np.array([10, 9, 10]).astype(kind)
    assert known_labels(labels, ("10", "9"), "x").tolist() == ["10", "9", "10"]


def test_a_label_that_training_never_saw(session: Session, some: SeriesSet) -> None:
    """BIMSBbioinfo/flexynesis#156."""
    strange = replace(some, labels=np.array(["fast", "slow", "torn", "slow", "fast", "slow"]))
    with pytest.raises(InputError) as caught:
        evaluate(session, strange)
    assert "must hold classes that the model knows (fast, slow); got torn." in str(caught.value)


@pytest.mark.parametrize("steps", [600, 599, 300, 1200])
def test_another_length_than_in_training(session: Session, some: SeriesSet, steps: int) -> None:
    """aeon-toolkit/aeon#1712: each answer is that of its series alone, whatever lies beside it."""
    other = [np.tile(x, 2)[:, :steps] for x in some.series]
    alone = np.concatenate([session.predict(x[None]) for x in other])
    mixed = session.predict(SeriesSet([*other, some.series[0]], some.channels))
    np.testing.assert_allclose(mixed[:-1], alone, atol=1e-5)
    assert alone.argmax(-1).tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_a_length_that_no_model_takes(session: Session, steps: int) -> None:
    """aeon-toolkit/aeon#1712."""
    with pytest.raises(InputError):
        session.predict(np.zeros((1, 2, steps)))


@pytest.mark.parametrize(
    ("order", "extra"),
    [
        # scikit-learn/scikit-learn#7242, mindsdb/mindshub#8531
        pytest.param(("voltage", "current"), "", id="another order"),
        pytest.param(("voltage", "noise", "current"), "label", id="other columns between"),
        pytest.param(("y", "voltage", "time2", "current"), "run", id="columns that look like roles"),
    ],
)
def test_columns_by_name(
    tmp_path: Path, session: Session, some: SeriesSet, order: tuple[str, ...], extra: str
) -> None:
    assert session.bundle is not None
    path = write(tmp_path, some, order, extra)
    read = read_for_model(path, session.bundle.manifest, needs_labels=False)
    np.testing.assert_allclose(session.predict(read), session.predict(some), atol=1e-5)


def test_a_column_that_is_not_there(tmp_path: Path, session: Session, some: SeriesSet) -> None:
    """mindsdb/mindshub#8531: never a neighbor in its place."""
    assert session.bundle is not None
    path = write(tmp_path, some, ("voltage", "currant"))
    with pytest.raises(InputError, match="current"):
        session.predict(read_for_model(path, session.bundle.manifest, needs_labels=False))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        # airqo-platform/AirQo-api#250, beestat/app#245
        pytest.param(np.nan, "missing", id="missing"),
        pytest.param(0.0, "flat", id="replaced by zero"),
        # woink/upstate-fishing#51, JohnGavin/rallyr#30
        pytest.param(-999999.0, "flat", id="a placeholder throughout"),
    ],
)
def test_a_dead_sensor_is_named_and_the_other_one_scored(
    session: Session, some: SeriesSet, value: float, kind: str
) -> None:
    windows = some.to_batch()
    windows[:, 1] = value
    faults = check_input(session, windows)
    assert [[str(fault) for fault in found] for found in faults] == [[f"voltage: {kind}"]] * len(windows)
    assert np.isfinite(session.predict(windows)).all()


def test_a_placeholder_among_values_is_a_fault(session: Session, some: SeriesSet) -> None:
    """EnviroDIY/ModularSensors#443, ropensci/nasapower#36: in an answer as in a file."""
    windows = some.to_batch()
    windows[:, 0, 50:53] = -9999
    assert [[str(fault) for fault in found] for found in check_input(session, windows)] == [
        ["current: too strong"]
    ] * len(windows)


def test_missing_is_not_zero(session: Session, some: SeriesSet) -> None:
    """airqo-platform/AirQo-api#250."""
    missing, zero = some.to_batch(), some.to_batch() + 3
    missing[:, 0, 100:400] = np.nan
    zero[:, 0, 100:400] = 0
    masked = np.ma.masked_array(np.nan_to_num(missing, nan=-9999), np.isnan(missing))
    np.testing.assert_allclose(session.predict(masked), session.predict(missing), atol=1e-6)
    assert np.abs(session.predict(missing + 3) - session.predict(zero)).max() > 1e-4


@pytest.mark.parametrize("field", ["labels", "groups", "ids"])
def test_unequal_lengths_are_refused(some: SeriesSet, field: str) -> None:
    """sdv-dev/SDMetrics#75."""
    with pytest.raises(InputError) as caught:
        replace(some, **{field: np.array(["a"] * 5)})
    assert f"`{field}` must have one entry per series (6); got 5." in str(caught.value)


def test_arrays_of_unequal_lengths_are_refused(tmp_path: Path, session: Session) -> None:
    """sdv-dev/SDMetrics#75, in an archive."""
    assert session.bundle is not None
    np.savez(tmp_path / "x.npz", X=np.zeros((3, 2, 64)), y=["fast", "slow"], channels=["current", "voltage"])
    with pytest.raises(InputError, match=r"y must have shape \[3\]; got \[2\]"):
        read_for_model(tmp_path / "x.npz", session.bundle.manifest)
