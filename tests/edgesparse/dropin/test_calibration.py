"""Calibration on what users bring: batches of unequal size, and inputs longer than those calibrated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.attention.selection import select_blocks
from edgesparse.dropin import (
    attention_mode,
    calibrate,
    counted_density,
    dropin_layers,
    load_layers,
    save_layers,
)
from edgesparse.dropin.fit import TOP_P, _offers, choose_top_p, meet_density
from edgesparse.dropin.observations import join_observations
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import export_model
from edgesparse_runtime.data.tensors.batch import TensorBatch
from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.tiny_models import sharpen, tiny

transformers = pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


def ids(rows: int, tokens: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "input_ids": torch.randint(3, 60, (rows, tokens), generator=generator),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.int64),
    }


def sparse_bert(tokens: int = 64) -> torch.nn.Module:
    """Calibrated to a quarter at this length; it has positions for eight times as many."""
    model, _ = tiny("bert", tokens=8 * 64)
    sharpen(model)
    return sparsify(model, [ids(4, tokens, seed=i) for i in range(3)], density=0.3, block_size=8)


@pytest.mark.parametrize("rows", [(4, 4, 3), (1, 4, 2), (4, 1), (3, 4)])
def test_batches_may_be_of_unequal_size(rows: tuple[int, ...]) -> None:
    model, _ = tiny("bert")
    batches = [ids(n, 64, seed=i) for i, n in enumerate(rows)]
    sparsify(model, block_size=8)
    found = calibrate(model, batches, density=0.4)
    assert 0.3 < found.density <= 0.45
    assert found.held_out == 1 and 0.5 < found.cosine <= 1


def test_batches_may_be_of_unequal_length() -> None:
    model, _ = tiny("bert")
    sparsify(model, block_size=8)
    found = calibrate(model, [ids(4, 64), ids(2, 40), ids(3, 57)], density=0.4)
    assert found.density < 0.6


def density_at(model: torch.nn.Module, tokens: int) -> float:
    with attention_mode(model, "sparse"):
        run_model(model, ids(2, tokens))
        return counted_density(model)


def test_density_does_not_fall_at_longer_inputs() -> None:
    model = sparse_bert()
    layer = dropin_layers(model)[0]
    assert int(layer.cap_length) == 8 and int(layer.max_blocks) == 3
    calibrated = density_at(model, 64)
    for times in (2, 4, 8):
        assert density_at(model, 64 * times) > 0.6 * calibrated, times
    for layer in dropin_layers(model):
        layer.set_cap_length(0)
    # What a cap that holds at every length gives: 3 of 64 blocks at most.
    assert density_at(model, 512) <= 3 / 64


def test_the_cap_grows_beyond_the_calibrated_length_only() -> None:
    model = sparse_bert()
    layer = dropin_layers(model)[0]
    assert [int(layer._max_blocks(n)) for n in (1, 8, 9, 16, 20, 32)] == [3, 3, 4, 6, 8, 12]


def test_the_exported_model_grows_its_cap_too(tmp_path: Path) -> None:
    model = sparse_bert()
    bundle, verdict = export_model(model, ids(2, 64), tmp_path / "x.edgesparse")
    assert verdict.holds
    session = Session(bundle, precision="float32")
    longer = ids(2, 200)
    batch = TensorBatch({name: x.numpy() for name, x in longer.items()})
    with torch.no_grad():
        expected = run_model(model, longer).numpy()
    np.testing.assert_allclose(session.predict(batch), expected, rtol=1e-3, atol=1e-4)
    most = max(int(x.sum(-1).max()) for x in session.selections(batch))
    assert 3 < most <= -(-3 * 25 // 8)


def test_layers_that_were_saved_without_a_length_keep_their_cap(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = sparse_bert()
    save_layers(model, tmp_path / "new.safetensors")
    stored = load_file(tmp_path / "new.safetensors")
    assert int(dropin_layers(load_layers(sparse_bert(), tmp_path / "new.safetensors"))[0].cap_length) == 8
    older = {name: x for name, x in stored.items() if not name.endswith("cap_length")}
    rule = '{"block_size": 8, "window": 0, "summaries": true}'
    save_file(older, tmp_path / "old.safetensors", metadata={"rule": rule})
    again = load_layers(sparse_bert(), tmp_path / "old.safetensors")
    assert [int(layer.cap_length) for layer in dropin_layers(again)] == [0, 0]
    assert density_at(again, 512) <= 3 / 64


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_what_a_value_keeps_and_misses_is_that_of_the_selection_rule(kind: str) -> None:
    model, batch = tiny(kind, tokens=128)
    sharpen(model)
    sparsify(model, block_size=8, window=1, sampled_queries=2)
    for mode in ("dense", "collect"):  # the first run makes the layers
        with attention_mode(model, mode):
            run_model(model, batch)
    for layer in dropin_layers(model):
        observation = join_observations(layer.observations, layer.router.block_axes)
        layer.max_blocks.fill_(5)
        kept, missed = _offers(layer, observation)
        reach, scores = observation.reach, layer.router.score(*observation.pooled)
        weight = torch.ones(observation.blocks, observation.blocks)
        if layer.is_causal:
            weight.fill_diagonal_(0.5)
        for i, value in enumerate(TOP_P):
            chosen = select_blocks(scores, value.expand(layer.heads), layer.max_blocks, reach, window=1)
            expected = (chosen * weight).sum((0, 2, 3))
            torch.testing.assert_close(kept[i], expected.double(), rtol=1e-6, atol=0.0)
            lost = (observation.mass * (reach & ~chosen)).sum(-1).double().square().sum((0, 2))
            torch.testing.assert_close(missed[i], lost, rtol=1e-4, atol=1e-6)


def test_a_density_that_comes_out_too_high_is_asked_for_lower() -> None:
    model, batch = tiny("bert", tokens=128)
    sharpen(model)
    sparsify(model, block_size=8)
    for mode in ("dense", "collect"):  # the first run makes the layers
        with attention_mode(model, mode):
            run_model(model, batch)
    layers = dropin_layers(model)
    observations = [join_observations(layer.observations, layer.router.block_axes) for layer in layers]

    def values() -> torch.Tensor:
        return torch.stack([layer.top_p for layer in layers])

    choose_top_p(layers, observations, 0.25, cap=None)
    expected = values().clone()
    meet_density(layers, observations, 0.5, lambda: 1.0, cap=None)
    assert torch.equal(values(), expected)
    # The cap is that of what was wanted: 1.25 times half of 16 blocks.
    meet_density(layers, observations, 0.5, lambda: 1.0)
    assert [int(layer.max_blocks) for layer in layers] == [10] * len(layers)
    # Below the diagonal blocks there is nothing.
    meet_density(layers, observations, 0.1, lambda: 0.9, cap=None)
    choose_top_p(layers, observations, 1 / 16, cap=None)
    assert torch.equal(values(), torch.zeros_like(values()))
