"""Density, entropy and captured mass per head: equal to their definitions; a collapsed router is named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import edgesparse.training.supervised as supervised
import edgesparse.training.train as train_module
from edgesparse.training.budget import measure_compute, sparse_layers
from edgesparse.training.head_stats import SAMPLED_BLOCKS, head_stats
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet
from tests.support.synthetic import tiny_config


def windows_of(series: SeriesSet) -> list[torch.Tensor]:
    return list(torch.from_numpy(series.to_batch()[:4]).split(1))  # type: ignore[no-untyped-call]


def test_figures_are_what_they_are_called(tiny_run: Run, series: SeriesSet) -> None:
    model, windows = tiny_run.model, windows_of(series)
    heads = head_stats(model, windows)
    density = measure_compute(model, windows).density_by_head
    assert [h.density for h in heads] == pytest.approx([d for layer in density for d in layer])
    layer = sparse_layers(model)[0]
    entropy, captured_mass = torch.zeros(2), torch.zeros(2)
    for window in windows:
        tokens = model.layers[0].norm_attention(model.embed_window(window)[0])  # type: ignore[operator]
        with torch.no_grad():
            _, record = layer(tokens)
            q, k, _ = layer.project_in(tokens).split(16, dim=-1)
            share = layer.router(q, k, None).softmax(-1)  # type: ignore[misc]
            entropy += (-(share * share.log()).sum(-1) / torch.tensor(10.0).log()).mean((0, 2))
            q, k = (x.view(1, 75, 2, 8).transpose(1, 2) for x in (q, k))
            sample = torch.linspace(0, 8, SAMPLED_BLOCKS).long()
            dense = (q @ k.mT * layer.scale).softmax(-1)
            kept = record.selection[:, :, sample].repeat_interleave(8, 2)
            kept = kept.repeat_interleave(8, 3)[..., :75]
            rows = (sample[:, None] * 8 + torch.arange(8)).flatten()
            captured_mass += (dense[:, :, rows] * kept).sum(-1).mean((0, 2))
    assert [h.entropy for h in heads[:2]] == pytest.approx((entropy / 4).tolist(), rel=1e-4)
    assert [h.captured_mass for h in heads[:2]] == pytest.approx((captured_mass / 4).tolist(), rel=1e-4)
    assert all(0 < h.density < 1 and h.captured_mass > h.density for h in heads)


def test_a_collapsed_router_is_named(tiny_run: Run, series: SeriesSet) -> None:
    model = copy.deepcopy(tiny_run.model)
    routers = [layer.router for layer in sparse_layers(model)]
    assert routers[0] is not None and routers[1] is not None
    assert not any(h.warning for h in head_stats(model, windows_of(series)))
    with torch.no_grad():
        routers[0].query_weight.zero_()
        sparse_layers(model)[1].top_p.fill_(1e-6)
    heads = head_stats(model, windows_of(series))
    assert all("no preference" in str(h.warning) for h in heads if h.layer == 0)
    assert all("local window only" in str(h.warning) for h in heads if h.layer == 1)


def test_measuring_changes_no_weight(
    tmp_path: Path, series: SeriesSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = train(series, tiny_config(epochs=4), tmp_path / "measured", quiet=True)
    line = json.loads((tmp_path / "measured" / "log.jsonl").read_text().splitlines()[-1])
    assert set(line["heads"]) == {"density", "entropy", "captured_mass"}
    assert len(line["heads"]["entropy"]) == 2 and len(line["heads"]["entropy"][0]) == 2
    for module in (supervised, train_module):
        monkeypatch.setattr(module, "head_stats", lambda *_: [])
    blind = train(series, tiny_config(epochs=4), tmp_path / "blind", quiet=True)
    for a, b in zip(measured.model.state_dict().values(), blind.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_dense_model_has_no_heads_to_examine(tmp_path: Path, series: SeriesSet) -> None:
    config = tiny_config(epochs=1)
    config = replace(config, model=replace(config.model, attention="dense"))
    assert train(series, config, tmp_path, quiet=True).report["heads"] == []
