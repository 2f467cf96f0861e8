"""The training loop: it learns, repeats itself, resumes, and refuses what it cannot use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import edgesparse.training.supervised as supervised
import edgesparse.training.train as train_module
from edgesparse.config import TrainingConfig
from edgesparse.training.budget import measure_compute
from edgesparse.training.checkpoint import FILE_NAME, read_tensors, write_tensors
from edgesparse.training.data import to_tensor
from edgesparse.training.evaluation import evaluate
from edgesparse.training.loop import Plan, plan_steps
from edgesparse.training.run_folder import Run, load_run
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from tests.edgesparse.training.interrupted import interrupted
from tests.support.synthetic import make_series, tiny_config


def stop(*arguments: object, **named: object) -> None:
    raise RuntimeError("stopped")


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.model.state_dict()


def equal(a: Run, b: Run) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values(), strict=True))


def test_learns_two_frequencies(tiny_run: Run) -> None:
    fresh = make_series(seed=1)
    assert evaluate(tiny_run.model, fresh, tiny_run.facts, tiny_run.config.training).value >= 0.9


def test_meets_its_budget_on_the_training_series(tiny_run: Run, series: SeriesSet) -> None:
    share = measure_compute(tiny_run.model, [to_tensor(series)[0]]).attention_share
    assert 0.45 <= share <= 0.5
    assert tiny_run.report["compute"]["attention_share"] == pytest.approx(share, abs=0.01)


def test_run_folder_holds_the_same_model(tmp_path: Path, series: SeriesSet) -> None:
    trained = train(series, tiny_config(epochs=2, min_steps=1), tmp_path / "run", quiet=True)
    again = load_run(trained.path)
    assert equal(trained, again)
    window = torch.from_numpy(series.to_batch()[:3])
    assert torch.equal(again.model(window), trained.model(window))
    assert not (trained.path / FILE_NAME).exists()
    lines = [json.loads(line) for line in (trained.path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]


def test_same_seed_same_weights(tmp_path: Path, series: SeriesSet) -> None:
    runs = [
        train(series, tiny_config(epochs=3, seed=s), tmp_path / f"{i}", quiet=True)
        for i, s in enumerate([5, 5, 6])
    ]
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_interrupted_and_resumed_is_the_uninterrupted_run(
    tmp_path: Path, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(series, tiny_config(epochs=4), tmp_path / "whole", quiet=True)
    with interrupted(monkeypatch, supervised, "task_loss", lambda calls, _: calls == 6):
        train(series, tiny_config(epochs=4), tmp_path / "parts", quiet=True)
    assert (tmp_path / "parts" / FILE_NAME).exists()
    resumed = train(series, tiny_config(epochs=4), tmp_path / "parts", resume=True, quiet=True)
    assert equal(whole, resumed)


def test_resume_needs_the_same_configuration(
    tmp_path: Path, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "save_run", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        train(series, tiny_config(epochs=2), tmp_path, quiet=True)
    with pytest.raises(InputError, match="another configuration"):
        train(series, tiny_config(epochs=3), tmp_path, resume=True, quiet=True)


def test_a_run_of_a_version_without_a_setting_resumes(
    tmp_path: Path, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted(monkeypatch, supervised, "task_loss", lambda calls, _: calls == 6):
        train(series, tiny_config(epochs=4), tmp_path, quiet=True)
    tensors, metadata = read_tensors(tmp_path / FILE_NAME)
    state = json.loads(metadata["state"])
    del state["settings"]["model"]["stem"]
    write_tensors(tmp_path / FILE_NAME, tensors, {"state": json.dumps(state)})
    train(series, tiny_config(epochs=4), tmp_path, resume=True, quiet=True)


def test_unequal_lengths_and_missing_values(tmp_path: Path) -> None:
    data = make_series(unequal=True)
    for x in data.series[::4]:
        x[0, 30:60] = np.nan
    run = train(data, tiny_config(), tmp_path, quiet=True)
    assert run.facts.variable_length
    assert evaluate(run.model, data, run.facts, run.config.training).value >= 0.9


def test_padding_does_not_change_a_score(tmp_path: Path) -> None:
    data = make_series(unequal=True)
    run = train(data, tiny_config(epochs=1), tmp_path, quiet=True)
    alone = torch.from_numpy(data.series[0])[None]
    padded = torch.cat([alone, torch.full((1, 2, 77), torch.nan)], dim=-1)
    torch.testing.assert_close(run.model(padded), run.model(alone), rtol=1e-4, atol=1e-5)


def test_regression_in_the_targets_unit(tmp_path: Path) -> None:
    data = make_series(60)
    level = np.linspace(100, 200, 60)
    data = SeriesSet(
        [x + v for x, v in zip(data.series, level, strict=True)], data.channels, level, source="level"
    )
    run = train(data, tiny_config(epochs=60, task="regression"), tmp_path, quiet=True)
    error = evaluate(run.model, data, run.facts, run.config.training)
    assert error.name == "mae"
    # A quarter of what the best constant scores.
    assert error.value < 25 / 4


def test_a_constant_channel_is_harmless(tmp_path: Path) -> None:
    data = make_series()
    for x in data.series:
        x[1] = 7.0
    run = train(data, tiny_config(epochs=2), tmp_path, quiet=True)
    assert torch.isfinite(run.model(torch.from_numpy(data.to_batch()))).all()


def test_validation_by_group_and_early_stopping(tmp_path: Path) -> None:
    data = make_series(60)
    data = replace(data, groups=np.array([f"m{i % 6}" for i in range(60)]))
    run = train(data, tiny_config(epochs=30, validation_share=0.35, patience=2), tmp_path, quiet=True)
    assert run.report["metrics"]["validation"]["n"] == 20
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) < 30


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "must have labels"), (np.array(["a"] * 36), "at least two classes")],
)
def test_unusable_labels_are_refused(tmp_path: Path, series: SeriesSet, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(replace(series, labels=labels), tiny_config(), tmp_path, quiet=True)  # type: ignore[arg-type]


def test_damaged_weights_are_refused(tmp_path: Path, series: SeriesSet) -> None:
    run = train(series, tiny_config(epochs=1), tmp_path, quiet=True)
    path = run.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="safetensors"):
        load_run(run.path)


@pytest.mark.parametrize(
    ("series", "epochs", "steps_per_epoch"),
    [(28, 480, 1), (100, 80, 6), (500, 40, 31), (3600, 17, 225)],
)
def test_small_sets_get_more_passes_and_large_ones_fewer(
    series: int, epochs: int, steps_per_epoch: int
) -> None:
    assert plan_steps(series, TrainingConfig()) == Plan(epochs, steps_per_epoch)
    assert plan_steps(series, TrainingConfig(epochs=3)) == Plan(3, steps_per_epoch)


def test_a_run_does_not_go_on_with_other_data(
    tmp_path: Path, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels or channels of the same shape would make a mixture of two models."""

    monkeypatch.setattr(train_module, "save_run", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        train(series, tiny_config(epochs=1), tmp_path, quiet=True)
    kept = (tmp_path / FILE_NAME).read_bytes()
    assert series.labels is not None
    others = [
        replace(series, labels=series.labels[::-1].copy()),
        replace(series, series=[x + 1 for x in series.series]),
        replace(series, channels=tuple(f"{name}x" for name in series.channels)),
    ]
    for other in others:
        with pytest.raises(InputError, match="other data"):
            train(other, tiny_config(epochs=1), tmp_path, resume=True, quiet=True)
    assert (tmp_path / FILE_NAME).read_bytes() == kept


def test_training_that_diverges_stops(tmp_path: Path, series: SeriesSet) -> None:
    with pytest.raises(InputError, match="loss must stay finite"):
        train(series, tiny_config(learning_rate=1e30), tmp_path, quiet=True)
