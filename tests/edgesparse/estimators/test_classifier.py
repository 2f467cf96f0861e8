"""The classifier: the model of the command line, scikit-learn's contract, bundles, and Ctrl-C."""

from __future__ import annotations

import copy
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from edgesparse.estimators import (
    InvalidInputError,
    SparseTransformerClassifier,
    SparseTransformerRegressor,
    fitted,
)
from edgesparse.estimators.options import Options, to_run_config
from edgesparse.training.train import train
from edgesparse_runtime.cli.building.train import TrainRequest, _resolve
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session
from tests.edgesparse.estimators.panels import SMALL, TINY, make_batch

X, Y = make_batch()


@pytest.fixture(scope="module")
def model() -> SparseTransformerClassifier:
    return SparseTransformerClassifier(settings=SMALL).fit(X, Y)


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({}, "classification"),
        ({"settings": {"model.filters": 8}}, "classification"),
        ({"settings": {"model.width": 32, "training.learning_rate": 1e-5}}, "classification"),
        ({"budget": 0.5}, "classification"),
        ({"attention": "dense", "epochs": 3}, "classification"),
        ({"preset": "small"}, "classification"),
        ({"model": "full"}, "classification"),
        ({"model": "small", "random_state": 7}, "classification"),
        ({}, "regression"),
    ],
)
def test_the_configuration_is_that_of_the_command_line(given: dict[str, Any], task: str) -> None:
    options = {k: v for k, v in given.items() if k not in ("settings", "random_state")}
    text = [
        f"{k}={v:f}" if isinstance(v, float) else f"{k}={v}" for k, v in given.get("settings", {}).items()
    ]
    request = TrainRequest(
        data=Path("x"), out=Path("y"), task=task, settings=text, seed=given.get("random_state", 0), **options
    )
    assert to_run_config(Options(**given), task) == _resolve(request)


def test_the_model_is_that_of_train(model: SparseTransformerClassifier, tmp_path: Path) -> None:
    data = SeriesSet(list(X), ("channel_0", "channel_1"), Y)
    run = train(data, to_run_config(model, "classification"), tmp_path / "run", quiet=True)
    with torch.no_grad():
        expected = run.to_scores(run.model(torch.from_numpy(X))).numpy()
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-5, atol=1e-6)
    assert run.config.model.layers == 0
    assert model.report_["skip"]["left_out"] == run.report["skip"]["left_out"]


@pytest.mark.parametrize("kinds", [(9, 10), (1.0, 2.5e9), ("b", "a"), (True, False)])
def test_labels_come_back_as_they_were(kinds: tuple[Any, Any]) -> None:
    """Sorted as numbers: by name, 10 comes before 9."""
    y = np.where(Y == "slow", *kinds)
    model = SparseTransformerClassifier(settings=SMALL).fit(X, y)
    assert model.predict(X).dtype == y.dtype
    assert model.classes_.tolist() == sorted(kinds)
    assert model.score(X, y) == 1.0
    assert (model.classes_[model.predict_proba(X).argmax(1)] == y).all()


def test_an_answer_is_that_of_its_series_alone(model: SparseTransformerClassifier) -> None:
    mixed = [X[0], X[1, :, :30], X[2], X[3, :, :41]]
    together = model.predict_proba(mixed)
    alone = np.concatenate([model.predict_proba([x]) for x in mixed])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(mixed[::-1]), together[::-1], atol=1e-6)


def test_it_is_copied_pickled_and_cloned(model: SparseTransformerClassifier) -> None:
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    with pytest.raises(NotFittedError, match="not fitted"):
        clone(model).predict(X)
    assert repr(clone(SparseTransformerClassifier(budget=0.5))) == "SparseTransformerClassifier(budget=0.5)"


def test_a_bundle_gives_the_same_answers(model: SparseTransformerClassifier, tmp_path: Path) -> None:
    y = np.where(Y == "slow", 10, 9)
    model = SparseTransformerClassifier(settings=SMALL).fit(X, y)
    path = tmp_path / "pump.edgesparse"
    model.save(path, X)
    opened = SparseTransformerClassifier.from_bundle(path, label_type=int)
    assert opened.score(X, y) == 1.0 and opened.classes_.tolist() == [9, 10]
    np.testing.assert_allclose(opened.predict_proba(X), model.predict_proba(X), rtol=1e-4, atol=1e-5)
    again = pickle.loads(pickle.dumps(opened))
    again.save(tmp_path / "copy.edgesparse")
    assert (
        SparseTransformerClassifier.from_bundle(tmp_path / "copy.edgesparse").predict(X) == y.astype(str)
    ).all()
    # Names against numbers are no silent zero.
    with pytest.raises((ValueError, TypeError)):
        SparseTransformerClassifier.from_bundle(path).score(X, y)
    with pytest.raises(InvalidInputError, match="must be a model for regression; it is for classification"):
        SparseTransformerRegressor.from_bundle(path)


def test_a_saved_bundle_tells_unknown_windows_as_that_of_train_does(
    model: SparseTransformerClassifier, tmp_path: Path
) -> None:
    data = SeriesSet(list(X), ("channel_0", "channel_1"), Y)
    run = train(data, to_run_config(model, "classification"), tmp_path / "run", quiet=True)
    assert model.report_["unknown"] == run.report["unknown"]
    # A pickle keeps what tells them.
    pickle.loads(pickle.dumps(model)).save(tmp_path / "pump.edgesparse", X)
    session = Session(tmp_path / "pump.edgesparse")
    far = 30 * np.random.default_rng(0).standard_normal(X[:4].shape).astype(np.float32).cumsum(axis=2)
    _, known = session.predict_with_unknown(X)
    _, other = session.predict_with_unknown(far)
    assert known is not None and other is not None
    assert (other > 1).all() and (known > 1).mean() <= 0.2
    assert session.bundle is not None
    assert session.bundle.manifest["unknown"] == {"threshold": 1.0} | run.report["unknown"]
    # A transformer without the small model's features cannot tell.
    plain = SparseTransformerClassifier(settings=TINY).fit(X, Y)
    plain.save(tmp_path / "plain.edgesparse")
    assert Session(tmp_path / "plain.edgesparse").predict_with_unknown(X)[1] is None


def test_what_is_stopped_leaves_the_estimator_as_it_was(
    model: SparseTransformerClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    other = copy.deepcopy(model)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fitted, "make_report", stop)
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        other.fit(X, np.where(Y == "slow", 1, 2))
    assert not list(tmp_path.iterdir())
    assert torch.equal(torch.get_rng_state(), state)
    assert (other.predict(X) == model.predict(X)).all()


def test_fitting_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    model = SparseTransformerClassifier(epochs=2, settings=TINY).fit(X, Y)
    assert [line["epoch"] for line in model.history_] == [1, 2]
    assert not list(tmp_path.iterdir())
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_are_those_of_the_fit_alone() -> None:
    before = torch.get_num_threads()
    with fitted._own_torch(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_auto_keeps_what_it_measured() -> None:
    settings = {**TINY, "training.epochs": 1}
    model = SparseTransformerClassifier(model="auto", settings=settings).fit(X, Y)
    assert model.report_["choice"]["model"] in ("small", "full")


def test_a_seed_of_none_is_another_one_each_time() -> None:
    assert to_run_config(Options(random_state=None), "regression") != to_run_config(
        Options(random_state=None), "regression"
    )


def test_it_runs_in_a_grid_search() -> None:
    grid = {"settings": [{"model.filters": 4}, {"model.filters": 8}]}
    search = GridSearchCV(SparseTransformerClassifier(), grid, cv=2).fit(X, Y)
    assert search.best_score_ == 1.0
    assert cross_val_score(SparseTransformerClassifier(settings=SMALL), list(X), Y, cv=2).tolist() == [
        1.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "large"}, "`model` must be one of auto, small, full; got 'large'"),
        ({"preset": "huge"}, "`preset` must be one of tiny, small, base"),
        ({"attention": "spare"}, "`attention` must be"),
        ({"budget": 2.0}, "`budget` must be"),
        ({"settings": {"model.widht": 8}}, "`settings`: unknown model key `widht`. Did you mean `width`?"),
        ({"settings": {"width": 8}}, "`settings` must be section.key=value"),
        ({"settings": [1]}, "`settings` must map names to values"),
        ({"settings": {"model.width": object()}}, "A setting must be a plain value"),
        ({"random_state": "one"}, "`random_state` must be"),
        ({"n_jobs": 0}, "`n_jobs` must be a number of threads"),
    ],
)
def test_parameters_are_refused_in_a_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        SparseTransformerClassifier(**given).fit(X, Y)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.full(12, "a"), "at least two classes; there is only one class, a"),
        (Y[:5], r"`y` must hold one entry per series \(12\); got shape \[5\]"),
        (np.where(Y == "slow", 1.0, np.nan), "`y` must be finite"),
        ([None, *Y[1:]], "entry 0 is missing"),
        (np.linspace(0, 1, 12), "continuous"),
        (None, "requires y to be passed"),
    ],
)
def test_labels_are_refused(y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SparseTransformerClassifier(settings=SMALL).fit(X, y)


def test_other_series_are_refused(model: SparseTransformerClassifier) -> None:
    with pytest.raises(InvalidInputError, match=r"must have the 2 channel\(s\) channel_0, channel_1"):
        model.predict(X[:, :1])
