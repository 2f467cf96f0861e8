"""Models of transformers through its attention interface."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from edgesparse.attention.heads import merge_heads
from edgesparse.attention.reference import sparse_attention
from edgesparse.attention.selection import select_blocks
from edgesparse.dropin import attention_mode, calibrate, counted_density, dropin_layers
from edgesparse.dropin.attention import DropinAttention
from edgesparse.dropin.outputs import cosine, padding_of, run_model
from edgesparse.dropin.sparsify import sparsify
from edgesparse_runtime.errors import InputError
from tests.edgesparse.dropin.tiny_models import KINDS, sharpen, tiny
from tests.support.tolerances import MODULE

pytest.importorskip("transformers", reason="needs pip install 'edgesparse[dropin]'")


def real(x: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    mask = padding_of(batch)
    return x if mask is None or mask.shape != x.shape[:2] else x[mask]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_whose_blocks_are_all_kept_says_what_it_said(kind: str) -> None:
    model, batch = tiny(kind)
    with torch.no_grad():
        dense = run_model(model, batch)
        sparsify(model, block_size=16)
        sparse = run_model(model, batch)
    assert len(dropin_layers(model)) == 2
    torch.testing.assert_close(real(sparse, batch), real(dense, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_meets_the_density_and_beats_no_training(kind: str) -> None:
    model, batch = tiny(kind)
    sharpen(model)
    sparsify(model, block_size=8)
    found = calibrate(model, [batch, batch], density=0.5, router_steps=60)
    assert found.divergence_after < found.divergence_before
    assert found.held_out == 1
    assert 0.2 < found.density < 0.6
    with attention_mode(model, "sparse"):
        run_model(model, batch)
    assert counted_density(model) == pytest.approx(found.density)


def test_a_wanted_fidelity_is_reached_and_a_higher_one_costs_more() -> None:
    model, batch = tiny("bert")
    sparsify(model, block_size=8)
    low = calibrate(model, [batch, batch], fidelity=0.9, router_steps=30)
    high = calibrate(model, [batch, batch], fidelity=0.99999, router_steps=30)
    assert low.cosine >= 0.9
    assert high.cosine >= 0.99999
    assert high.density >= low.density


def test_prefill_of_a_causal_decoder_equals_the_reference() -> None:
    model, batch = tiny("llama")
    sparsify(model, [batch], density=0.4, block_size=16)
    layer = dropin_layers(model)[0]
    seen: dict[str, torch.Tensor] = {}
    layer.register_forward_pre_hook(lambda _, args: seen.update(query=args[0], key=args[1], value=args[2]))
    layer.register_forward_hook(lambda _, args, result: seen.update(output=result[0]))
    with torch.no_grad():
        run_model(model, batch)
        packed = [merge_heads(seen[name]) for name in ("query", "key", "value")]
        scores = layer.router(packed[0], packed[1], None)
    mask = torch.ones(2, 70, dtype=torch.bool)
    expected, selection = sparse_attention(
        *packed, scores, layer.top_p, layer.max_blocks, mask, attributes=layer.attributes
    )
    assert layer.attributes.is_causal and layer.attributes.block_size == 16
    blocks = selection.shape[-1]
    assert 8 * blocks <= selection.sum() < 8 * blocks * (blocks + 1) / 2
    torch.testing.assert_close(seen["output"], expected, rtol=MODULE.relative, atol=MODULE.absolute)


def test_no_token_of_a_causal_decoder_sees_the_future() -> None:
    model, batch = tiny("llama")
    sparsify(model, [batch], density=0.4, block_size=16)
    with torch.no_grad():
        before = run_model(model, batch)
        for place in (1, 15, 16, 40, 69):
            changed = {**batch, "input_ids": batch["input_ids"].clone()}
            changed["input_ids"][:, place:] = (changed["input_ids"][:, place:] + 7) % 64
            after = run_model(model, changed)
            torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=1e-6)
            assert not torch.allclose(after[:, place:], before[:, place:])


def test_decoding_goes_on_densely_after_a_sparse_prefill() -> None:
    model, batch = tiny("llama")
    ids = batch["input_ids"]
    with torch.no_grad():
        dense = model(ids).logits
        sparsify(model, block_size=16)
        prefill = model(ids[:, :60], use_cache=True)
        steps = model(ids[:, 60:], past_key_values=prefill.past_key_values, use_cache=True)
    torch.testing.assert_close(steps.logits, dense[:, 60:], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing() -> None:
    model, batch = tiny("bert")
    sparsify(model, [batch], density=0.5, block_size=8)
    with torch.no_grad():
        padded = run_model(model, {k: v[1:] for k, v in batch.items()})[:, :48]
        # 48 tokens are whole blocks: padding behind them adds none that could be chosen.
        mask = batch["attention_mask"][1:].clone()
        mask[:, 48:] = 0
        one = run_model(model, {"input_ids": batch["input_ids"][1:], "attention_mask": mask})[:, :48]
        alone = run_model(model, {"input_ids": batch["input_ids"][1:, :48], "attention_mask": mask[:, :48]})
    assert padded.shape == alone.shape
    torch.testing.assert_close(one, alone, rtol=1e-4, atol=1e-5)


def test_a_key_that_every_query_needs_is_found_from_data() -> None:
    """One token, wherever it stands, gets nearly all attention: its block is kept by every query."""
    torch.manual_seed(0)
    model, _ = tiny("bert")
    batches = []
    for place in (3, 37, 20, 61, 50, 11, 28, 44):
        ids = torch.randint(3, 50, (1, 64))
        ids[0, place] = 60
        batches.append({"input_ids": ids})
    with torch.no_grad():
        # The token 60 has an embedding that every query of the first layer answers to, all others at random.
        attention = model.encoder.layer[0].attention.self
        direction = torch.randn(32)
        direction -= direction.mean()
        model.embeddings.word_embeddings.weight[60] = direction * 4
        for weight in (attention.query.weight, attention.key.bias):
            weight.zero_()
        attention.query.bias.fill_(0.84)
        attention.key.weight.copy_((direction / direction.norm()).expand(32, 32) * 0.84)
    sparsify(model, block_size=8)
    calibrate(model, batches, density=0.3, router_steps=150)
    layer = dropin_layers(model)[0]
    ids = torch.randint(3, 50, (1, 64))
    ids[0, 33] = 60
    chosen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, args: chosen.extend(args[:2]))
    with torch.no_grad():
        run_model(model, {"input_ids": ids})
        scores = layer.router(*(x.transpose(1, 2).flatten(2) for x in chosen), None)
    reach = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    selection = select_blocks(scores, layer.top_p, layer.max_blocks, reach, window=0)
    assert bool(selection[..., 33 // 8].all())
    assert selection.float().mean() < 0.5


def test_distillation_lowers_the_error_and_leaves_the_routers() -> None:
    model, batch = tiny("bert")
    sharpen(model)
    with torch.no_grad():
        dense = run_model(model, batch)
    sparsify(model, [batch], density=0.15, block_size=8)
    routers = [p.clone() for layer in dropin_layers(model) for p in layer.router.parameters()]
    with torch.no_grad():
        before = cosine(run_model(model, batch), dense, padding_of(batch))
    from edgesparse.dropin.distill import distill

    distill(model, [(batch, dense)], steps=30, rate=3e-4)
    with torch.no_grad():
        after = cosine(run_model(model, batch), dense, padding_of(batch))
    assert after > before
    now = [p for layer in dropin_layers(model) for p in layer.router.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(routers, now, strict=True))


def test_three_lines_of_the_readme(tmp_path: Path) -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    (code,) = [block for block in blocks if "sparsify" in block]
    assert len([line for line in code.splitlines() if line]) == 3
    model, batch = tiny("bert", tokens=300)
    sharpen(model)
    model.save_pretrained(tmp_path)
    names: dict[str, Any] = {"path": tmp_path, "batches": [batch, batch]}
    exec(code, names)
    with attention_mode(names["model"], "sparse"):
        run_model(names["model"], batch)
    assert 0 < counted_density(names["model"]) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "One of `density` and `fidelity` must be given; got neither"),
        ({"density": 0.2, "fidelity": 0.9}, "One of `density` and `fidelity` must be given, not both"),
        ({"density": 0.0}, "`density` must be above 0 and at most 1; got 0"),
        ({"fidelity": 1.0}, "`fidelity` must be above 0 and below 1; got 1"),
        ({"density": "0.5"}, "`density` must be a number; got '0.5'"),
        ({"density": 0.2, "distill_steps": -1}, "`distill_steps` must be a whole number, 0 or more; got -1"),
    ],
)
def test_bad_targets_are_refused(options: dict[str, Any], message: str) -> None:
    model, batch = tiny("bert")
    sparsify(model)
    with pytest.raises(InputError, match=message):
        calibrate(model, [batch], **options)


def test_a_decoder_beside_a_sparse_encoder_stays_as_it_was() -> None:
    """The two share one configuration object."""
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=50, num_mel_bins=8, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_source_positions=70, max_target_positions=20, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    model = transformers.WhisperModel(config).eval()
    inputs = {"input_features": torch.randn(1, 8, 140), "decoder_input_ids": torch.tensor([[1, 3, 4, 5]])}
    dense = run_model(model, inputs)
    sparsify(model.encoder, block_size=16)
    assert model.decoder.config._attn_implementation != "edgesparse"
    sparse = run_model(model, inputs)
    assert sparse.shape == dense.shape
    names = [name for name, module in model.named_modules() if isinstance(module, DropinAttention)]
    assert names and all(name.startswith("encoder.") for name in names)
    # Saved as a whole, the model still says that it was sparse.
    assert model.config.attn_implementation == "edgesparse"
