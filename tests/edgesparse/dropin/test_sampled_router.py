"""The sampled router against its definition, one pair of blocks at a time, and in a layer."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgesparse.dropin import counted_density, dropin_layers
from edgesparse.dropin.config import DropinConfig
from edgesparse.dropin.outputs import run_model
from edgesparse.dropin.sampled_router import PART_WEIGHT, SampledRouter
from edgesparse.dropin.sparsify import sparsify
from edgesparse.dropin.store import load_layers, save_layers
from edgesparse_runtime.errors import InputError
from tests.edgesparse.dropin.tiny_models import sharpen, tiny

HEADS, GROUPS, SIZE, BLOCK, SCALE = 6, 3, 8, 16, 0.3
MASKS = {"whole": (0, 75), "padded behind": (0, 50), "padded in front": (20, 75), "padded between": (0, 75)}


def _twin(query: Tensor, key: Tensor, real: list[int], length: int, is_causal: bool, queries: int) -> Tensor:
    """The mass of one row and head, in loops: queries and keys [N, D] -> [K, K]."""
    blocks = -(-length // BLOCK)
    mass = torch.zeros(blocks, blocks)
    parts = [[t for t in real if t // 8 == p] for p in range(-(-length // 8))]
    for i in range(blocks):
        asked = []
        for n in range(queries):
            place = min(i * BLOCK + (n + 1) * BLOCK // queries - 1, length - 1)
            if min(place, max(real)) not in real:
                continue
            seen = [t for t in real if not is_causal or t <= place]
            shares = _shares(query[min(place, max(real))], [key[t] for t in seen])
            asked.append(_by_block(shares, [t // BLOCK for t in seen], blocks))
        means = []
        for p, tokens in enumerate(parts):
            if p * 8 // BLOCK != i or not tokens:
                continue
            seen = [x for x, other in enumerate(parts) if other and (not is_causal or x <= p)]
            shares = _shares(query[tokens].mean(0), [key[parts[x]].mean(0) for x in seen])
            means.append(_by_block(shares, [x * 8 // BLOCK for x in seen], blocks))
        squares = torch.stack(asked).square().mean(0) if asked else torch.zeros(blocks)
        if means:
            squares = squares + PART_WEIGHT * torch.stack(means).square().mean(0)
        mass[i] = squares.sqrt()
    return mass


def _shares(query: Tensor, keys: list[Tensor]) -> Tensor:
    return torch.tensor([float(query @ k) * SCALE for k in keys]).softmax(0) if keys else torch.zeros(0)


def _by_block(shares: Tensor, blocks_of: list[int], blocks: int) -> Tensor:
    return torch.zeros(blocks).index_add(0, torch.tensor(blocks_of, dtype=torch.int64), shares)


@pytest.mark.parametrize("queries", [1, 2])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_mass_is_what_the_definition_says(is_causal: bool, mask: str, queries: int) -> None:
    generator = torch.Generator().manual_seed(0)
    length, (first, last) = 75, MASKS[mask]
    query = 2 * torch.randn(2, length, HEADS * SIZE, generator=generator)
    key = 2 * torch.randn(2, length, GROUPS * SIZE, generator=generator)
    real = torch.ones(2, length, dtype=torch.bool)
    real[1] = (torch.arange(length) >= first) & (torch.arange(length) < last)
    if mask == "padded between":
        real[1] &= torch.rand(length, generator=generator) < 0.5
    router = SampledRouter(HEADS, GROUPS, BLOCK, queries=queries, scale=SCALE, is_causal=is_causal)
    (found,) = router.pool(query, key, None if mask == "whole" else real)
    for row, head in itertools.product(range(2), range(HEADS)):
        expected = _twin(
            query[row].view(length, HEADS, SIZE)[:, head],
            key[row].view(length, GROUPS, SIZE)[:, head // (HEADS // GROUPS)],
            [t for t in range(length) if real[row, t]],
            length,
            is_causal,
            queries,
        )
        torch.testing.assert_close(found[row, head], expected, rtol=1e-4, atol=1e-6)


def test_scores_are_the_log_of_mass_without_the_diagonal() -> None:
    router = SampledRouter(1, 1, 8, queries=1, scale=1.0, is_causal=True)
    mass = torch.tensor([[[[0.5, 0.0], [0.25, 0.75]]]])
    scores = router.score(mass)
    assert scores[0, 0, 1].tolist() == [pytest.approx(torch.tensor(0.25).log().item()), -torch.inf]


def test_a_layer_keeps_the_density_and_survives_storage(tmp_path: Path) -> None:
    model, batch = tiny("llama", tokens=128)
    sharpen(model)
    sparsify(model, [batch], density=0.5, block_size=16, sampled_queries=2)
    layers = dropin_layers(model)
    assert layers
    assert all(isinstance(layer.router, SampledRouter) for layer in layers)
    before = run_model(model, batch)
    # The second layer was calibrated on what a dense first one gives.
    assert 0.2 < counted_density(model) <= 0.55
    save_layers(model, tmp_path / "layers.safetensors")
    other = load_layers(tiny("llama", tokens=128)[0], tmp_path / "layers.safetensors")
    sharpen(other)
    assert torch.equal(run_model(other, batch), before)


def test_more_queries_than_a_block_has_are_refused() -> None:
    with pytest.raises(InputError, match="at most `block_size`, 8; got 9"):
        DropinConfig(block_size=8, sampled_queries=9)
