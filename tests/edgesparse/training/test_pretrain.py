"""`--pretrain`: learns from unlabeled windows, resumes, and hands its weights to training on labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import edgesparse.training.loop as loop
from edgesparse.config import RunConfig
from edgesparse.training.pretrain import pretrain, train_from_unlabeled
from edgesparse.training.run_folder import load_run
from edgesparse.training.supervised import load_initial
from edgesparse.training.train import train
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.cli.app import run as command
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from tests.edgesparse.training.interrupted import interrupted
from tests.support.synthetic import make_series, tiny_config


def unlabeled(count: int = 60) -> SeriesSet:
    return replace(make_series(count, seed=7), labels=None)


def config(epochs: int = 4) -> RunConfig:
    return tiny_config(epochs=epochs)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_spans_of_other_windows_are_reconstructed_better(tmp_path: Path) -> None:
    _, done = pretrain(unlabeled(), config(80), tmp_path, quiet=True)
    assert (done.series, done.held_out) == (54, 6) and done.steps == 80 * (54 // 8)
    assert done.error_after < min(0.97, 0.8 * done.error_before)


def test_interrupted_and_resumed_is_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, done = pretrain(unlabeled(), config(), tmp_path / "whole", quiet=True)
    with interrupted(monkeypatch, loop, "save_checkpoint", lambda _, arguments: arguments[-1]["epoch"] == 2):
        pretrain(unlabeled(), config(), tmp_path / "parts", quiet=True)
    with pytest.raises(InputError, match="another configuration"):
        pretrain(unlabeled(), config(5), tmp_path / "parts", resume=True, quiet=True)
    again, same = pretrain(unlabeled(), config(), tmp_path / "parts", resume=True, quiet=True)
    assert equal(whole, again) and done == same
    logs = [(tmp_path / name / "pretraining/log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 4
    # A finished one is only read.
    monkeypatch.setattr(loop, "save_checkpoint", None)
    assert equal(whole, pretrain(unlabeled(), config(), tmp_path / "parts", resume=True, quiet=True)[0])


def test_training_starts_from_it_and_the_result_exports(tmp_path: Path) -> None:
    data = make_series(16)
    run = train_from_unlabeled(data, unlabeled(30), config(2), tmp_path / "run", quiet=True)
    plain = train(data, config(2), tmp_path / "plain", quiet=True)
    # The stem is that of the unlabeled windows.
    weights, _ = pretrain(unlabeled(30), run.config, tmp_path / "run", resume=True, quiet=True)
    assert torch.equal(run.model.bank.threshold, weights["bank.threshold"])
    assert not torch.equal(run.model.bank.threshold, plain.model.bank.threshold)
    assert load_run(run.path).report["pretraining"]["series"] == 27
    assert export_run(run, tmp_path / "p.edgesparse", data=data)[1].holds


def test_a_path_and_arrays_are_accepted_as_train_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 2, 64)).astype(np.float32)
    np.savez(tmp_path / "x.npz", X=x)
    short = tiny_config(epochs=1, min_steps=1)
    from_path = pretrain(str(tmp_path / "x.npz"), short, str(tmp_path / "a"), quiet=True)[0]
    from_array = pretrain(x, short, tmp_path / "b", quiet=True)[0]
    assert equal(from_path, from_array)
    with pytest.raises(InputError, match=r"nowhere\.npz"):
        pretrain("nowhere.npz", short, tmp_path / "c", quiet=True)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    run = train(make_series(16), config(1), tmp_path, quiet=True)
    weights = {name: value for name, value in run.model.state_dict().items() if name != "head.bias"}
    load_initial(run.model, weights)
    with pytest.raises(InputError, match="must fit the model"):
        load_initial(run.model, {**weights, "embed.weight": torch.zeros(3, 3)})
    del weights["embed.weight"]
    with pytest.raises(InputError, match=r"got embed\.weight"):
        load_initial(run.model, weights)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, more = make_series(16), unlabeled(20)
    np.savez(tmp_path / "few.npz", X=data.to_batch(), y=data.labels, channels=np.array(data.channels))
    np.savez(tmp_path / "many.npz", X=more.to_batch(), channels=np.array(more.channels))
    arguments = ["train", str(tmp_path / "few.npz"), "-o", str(tmp_path / "run"), "--epochs", "1"]
    arguments += ["--pretrain", str(tmp_path / "many.npz"), "--set", "model.width=16"]
    assert command(arguments) == 0
    assert "18 windows of many.npz" in capsys.readouterr().out
    assert command([*arguments, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pretraining"]["held_out"] == 2
    np.savez(tmp_path / "many.npz", X=more.to_batch()[:, :1])
    assert command([*arguments, "--overwrite"]) == 2
    assert "must have the 2 channel(s)" in capsys.readouterr().err
