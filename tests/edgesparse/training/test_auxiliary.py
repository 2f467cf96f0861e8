"""The long-range task and the consistency term: what they see, what they change, what they leave alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

import edgesparse.training.loop as loop
import edgesparse.training.supervised as supervised
from edgesparse.training.budget import set_selection, sparse_layers
from edgesparse.training.consistency import consistency_loss, dense_output
from edgesparse.training.masked_spans import Reconstruction, hide_spans, reach_of_window
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet
from tests.edgesparse.training.interrupted import interrupted
from tests.support.synthetic import make_series, tiny_config


def equal(a: Run, b: Run) -> bool:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(("tokens", "window"), [(1, 8), (15, 8), (75, 8), (183, 16), (183, 48), (512, 0)])
def test_spans_are_longer_than_the_window(tokens: int, window: int) -> None:
    torch.manual_seed(0)
    hidden = hide_spans(40, tokens, longer_than=window, share=0.3)
    assert hidden.shape == (40, tokens) and hidden.any(1).all()
    if 2 * (window + 1) > tokens:
        assert (hidden.sum(1) == max(1, round(0.3 * tokens))).all()
        return
    for row in hidden:
        # Lengths of the runs of hidden tokens.
        edges = torch.diff(torch.nn.functional.pad(row.int(), (1, 1)))
        runs = (edges == -1).nonzero() - (edges == 1).nonzero()
        assert int(runs.min()) >= window + 1
    assert 0.15 < hidden.float().mean() < 0.45


def test_nothing_hidden_is_seen(tiny_run: Run, series: SeriesSet) -> None:
    """Other values in the hidden steps, same level and scale: the same tokens come out."""
    model = tiny_run.model
    task = Reconstruction(model.config.width, model.bank.features)
    windows = torch.from_numpy(series.to_batch()[:4])
    task.fit(model, windows)
    hidden = torch.zeros(4, 75, dtype=torch.bool)
    hidden[:, 20:40] = True
    seen: list[torch.Tensor] = []
    task.project.register_forward_hook(lambda module, inputs, output: seen.append(output))
    changed = windows.clone()
    changed[:, :, 160:320] = changed[:, :, 160:320].flip(-1)
    with torch.no_grad():
        losses = [float(task(model, x, hidden)) for x in (windows, changed)]
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-4)
    assert losses[0] != losses[1]


def test_task_is_learned_and_one_is_what_the_mean_scores(series: SeriesSet, tiny_run: Run) -> None:
    torch.manual_seed(0)
    model = copy.deepcopy(tiny_run.model)
    task = Reconstruction(model.config.width, model.bank.features)
    windows = torch.from_numpy(series.to_batch())
    task.fit(model, windows)
    hidden = hide_spans(len(windows), 75, longer_than=reach_of_window(model), share=0.3)
    with torch.no_grad():
        task.project.weight.zero_()
        task.project.bias.zero_()
        assert float(task(model, windows, hidden)) == pytest.approx(1.0, abs=0.1)
    optimizer = torch.optim.Adam([*task.parameters(), *model.parameters()], lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss = task(model, windows, hidden)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # The class, that is the frequency, is what other tokens tell; the phase and the noise they do not.
    assert loss.item() < 0.95


def test_consistency_is_zero_for_a_dense_choice_and_leaves_the_model_alone(
    tiny_run: Run, series: SeriesSet
) -> None:
    model = tiny_run.model
    knobs = [(layer.top_p.clone(), layer.max_blocks.clone()) for layer in sparse_layers(model)]
    windows = torch.from_numpy(series.to_batch()[:6])
    try:
        with torch.no_grad():
            sparse = model(windows)
            apart = consistency_loss(model, windows, sparse, is_classification=True)
            set_selection(model, 1.0)
            together = consistency_loss(model, windows, model(windows), is_classification=True)
            torch.testing.assert_close(dense_output(model, windows), model(windows), rtol=1e-4, atol=1e-5)
    finally:
        for layer, (top_p, max_blocks) in zip(sparse_layers(model), knobs, strict=True):
            layer.top_p.copy_(top_p)
            layer.max_blocks.copy_(max_blocks)
    assert float(together) < 1e-6 < float(apart)
    assert not model.training and not any(layer.warmup for layer in sparse_layers(model))


def test_both_terms_train_resume_and_leave_no_weights_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_series(24, unequal=True)
    config = tiny_config(epochs=4, auxiliary_weight=0.3, consistency_weight=0.5, consistency_interval=2)
    whole = train(data, config, tmp_path / "whole", quiet=True)
    plain = train(data, tiny_config(epochs=4), tmp_path / "plain", quiet=True)
    assert list(whole.model.state_dict()) == list(plain.model.state_dict())
    assert not equal(whole, plain)
    with interrupted(monkeypatch, supervised, "task_loss", lambda calls, _: calls == 8):
        train(data, config, tmp_path / "parts", quiet=True)
    resumed = train(data, config, tmp_path / "parts", resume=True, quiet=True)
    assert equal(whole, resumed)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 4
    assert "captured_mass" in json.loads(logs[0].splitlines()[-1])["heads"]


def test_early_stopping_resumes_to_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best weights so far lie in the checkpoint: they may be older than it."""
    data = make_series(40)
    config = tiny_config(epochs=8, validation_share=0.3, patience=6, learning_rate=2e-2)
    whole = train(data, config, tmp_path / "whole", quiet=True)
    with interrupted(monkeypatch, loop, "save_checkpoint", lambda _, arguments: arguments[-1]["epoch"] == 6):
        train(data, config, tmp_path / "parts", quiet=True)
    assert equal(whole, train(data, config, tmp_path / "parts", resume=True, quiet=True))
