"""The correction of means: what it mends, and what it must leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgesparse.attention.attributes import Attributes
from edgesparse.attention.record import AttentionRecord
from edgesparse.dropin import attention_mode, calibrate, calibration, dropin_layers, load_layers, save_layers
from edgesparse.dropin.attention import DropinAttention, dropped_share
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.correction import clear_corrections, correct_means
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_export.dropin.bundle import export_model, to_arrays
from edgesparse_runtime.session import Session
from tests.edgesparse.dropin.tiny_models import sharpen, tiny
from tests.support.tolerances import DROPIN_OF_LARGEST

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


def sparse_vit() -> tuple[DropinAttention, torch.nn.Module, dict[str, torch.Tensor]]:
    model, batch = tiny("vit")
    sharpen(model)
    sparsify(model, [batch], density=0.3, block_size=8)
    correct_means(model, [batch])
    return dropin_layers(model)[-1], model, batch


def layer_mean(layer: DropinAttention, model: torch.nn.Module, batch: object, mode: str) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _, args, result: seen.append(result[0]))
    with attention_mode(model, mode):  # type: ignore[arg-type]
        run_model(model, batch)  # type: ignore[arg-type]
    hook.remove()
    return seen[0].mean((0, 1))


def test_the_mean_of_a_layer_is_that_of_dense_attention() -> None:
    layer, model, batch = sparse_vit()
    wanted = layer_mean(layer, model, batch, "dense")
    clear_corrections(model)
    off = (layer_mean(layer, model, batch, "sparse") - wanted).abs().max()
    correct_means(model, [batch])
    left = (layer_mean(layer, model, batch, "sparse") - wanted).abs().max()
    assert off > 1e-3
    assert left < 1e-5


def test_calibration_keeps_a_correction_only_if_it_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, batch = sparse_vit()
    monkeypatch.setattr(calibration, "WORTH", 1.0)
    assert not calibrate(model, [batch], density=0.3, router_steps=0).corrected
    monkeypatch.setattr(calibration, "WORTH", 0.0)
    found = calibrate(model, [batch], density=0.3, router_steps=0)
    plain = calibrate(model, [batch], density=0.3, router_steps=0, correct=False)
    assert found.corrected and not plain.corrected
    assert found.cosine > plain.cosine
    assert all(layer.correction.numel() == 1 for layer in dropin_layers(model))

    def spoil(model: torch.nn.Module, batches: object) -> None:
        for layer in dropin_layers(model):
            layer.correction = torch.full((32,), 100.0)

    monkeypatch.setattr(calibration, "correct_means", spoil)
    again = calibrate(model, [batch], density=0.3, router_steps=0)
    assert not again.corrected
    assert again.cosine == plain.cosine


def test_an_input_that_keeps_all_is_left_alone() -> None:
    torch.manual_seed(0)
    layer = DropinAttention(DropinConfig(8), heads=2, groups=2, head_size=4, scale=0.5, is_causal=False)
    x = torch.randn(1, 2, 8, 4)
    with torch.no_grad():
        before, _ = layer(x, x, x, None)
        layer.correction = torch.full((8,), 100.0)
        assert torch.equal(layer(x, x, x, None)[0], before)


def test_causal_layers_have_none() -> None:
    model, batch = tiny("llama")
    sparsify(model, [batch], density=0.4, block_size=8)
    assert all(layer.correction.numel() == 1 for layer in dropin_layers(model))


def test_the_share_left_out_counts_real_blocks() -> None:
    kept = torch.zeros(1, 2, 3, 3, dtype=torch.bool)
    kept[0, :, 0, 0] = kept[0, 0, 1, 1] = kept[0, :, 2, 2] = True
    # Two real blocks: three of eight pairs over both heads are kept.
    record = AttentionRecord(Attributes(2, 2, 4), 8, torch.arange(12)[None] < 7, kept)
    assert dropped_share(record).tolist() == [1 - 3 / 8]


def test_a_correction_is_saved_and_exported(tmp_path: Path) -> None:
    _, model, batch = sparse_vit()
    assert all(layer.correction.numel() == 32 for layer in dropin_layers(model))
    save_layers(model, tmp_path / "layers.safetensors")
    twin = load_layers(tiny("vit")[0], tmp_path / "layers.safetensors")
    for a, b in zip(dropin_layers(model), dropin_layers(twin), strict=True):
        assert torch.equal(a.correction, b.correction)
    bundle, verdict = export_model(model, batch, tmp_path / "x.edgesparse")
    assert verdict.holds
    session = Session(bundle, precision="float32")
    with torch.no_grad():
        expected = run_model(model, batch).numpy()
        clear_corrections(model)
        plain = run_model(model, batch).numpy()
    allowed = (
        DROPIN_OF_LARGEST.relative * np.abs(expected).max(-1, keepdims=True) + DROPIN_OF_LARGEST.absolute
    )
    actual = session.predict(to_arrays(batch))
    assert (np.abs(actual - expected) <= allowed).all()
    assert (np.abs(plain - expected) > allowed).any()
