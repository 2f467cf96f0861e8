"""The gathering fast path against the naive twin, forward and backward, and the rules of the module."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from edgesparse.attention import gather
from edgesparse.attention.gather import gather_attention
from edgesparse.attention.layer import AttentionConfig, SparseAttention
from edgesparse.attention.reference import reference_attention
from edgesparse.attention.selection import ordered_selection, reachable_blocks, valid_blocks
from tests.support.tolerances import MODULE

LENGTHS = [1, 15, 16, 17, 63, 64, 65, 97, 131]


def both_paths(
    length: int, *, is_causal: bool, summaries: bool, groups: int, seed: int = 0, masked: bool = True
) -> list[tuple[Tensor, list[Tensor]]]:
    """Output and gradients of reference and fast path on the same input."""
    generator = torch.Generator().manual_seed(seed)
    batch, heads, size, value_size, block_size = 3, 4, 8, 6, 16
    query = torch.randn(batch, heads, length, size, generator=generator)
    key = torch.randn(batch, groups, length, size, generator=generator)
    value = torch.randn(batch, groups, length, value_size, generator=generator)
    mask = torch.ones(batch, length, dtype=torch.bool)
    if masked:
        mask[1, length // 2 :] = False
        mask[2] = torch.rand(length, generator=generator) < 0.7
    valid = valid_blocks(mask, block_size)
    blocks = valid.shape[1]
    reach = reachable_blocks(valid, blocks, is_causal=is_causal)
    scores = torch.randn(batch, heads, blocks, blocks, generator=generator)
    top_p = torch.tensor([0.2, 0.5, 0.8, 1.0])
    order, kept = ordered_selection(scores, top_p, torch.tensor([5]), reach, window=1)
    rule = {"block_size": block_size, "scale": 0.3, "summaries": summaries, "is_causal": is_causal}
    results = []
    for path in (reference_attention, gather_attention):
        leaves = [x.clone().requires_grad_() for x in (query, key, value)]
        if path is reference_attention:
            selection = torch.zeros_like(kept).scatter(-1, order, kept)
            output = reference_attention(*leaves, selection, mask, reach, **rule)  # type: ignore[arg-type]
        else:
            output = gather_attention(*leaves, order, kept, mask, reach, **rule)  # type: ignore[arg-type]
        weight = torch.linspace(-1, 1, output.numel()).view_as(output)
        gradients = torch.autograd.grad((output * weight).sum(), leaves)
        results.append((output, list(gradients)))
    return results


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("is_causal", "summaries", "groups"), list(itertools.product([False, True], [False, True], [2, 4]))
)
def test_fast_path_equals_reference(length: int, is_causal: bool, summaries: bool, groups: int) -> None:
    (expected, expected_grads), (actual, actual_grads) = both_paths(
        length, is_causal=is_causal, summaries=summaries, groups=groups
    )
    torch.testing.assert_close(actual, expected, rtol=MODULE.relative, atol=MODULE.absolute)
    for got, want in zip(actual_grads, expected_grads, strict=True):
        # A gradient sums over up to 131 rows; its scale, not each entry, is what the tolerance is of.
        scale = float(want.abs().max().clamp(min=1.0))
        torch.testing.assert_close(got, want, rtol=MODULE.relative, atol=MODULE.absolute * scale)


@pytest.mark.parametrize(("piece", "group"), [(1, 1), (20_000, 1 << 30), (1 << 30, 3_000)])
def test_pieces_do_not_matter(piece: int, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One query block at a time or all at once, on buffers that start as NaN."""
    monkeypatch.setattr(gather, "PIECE_BYTES", piece)
    monkeypatch.setattr(gather, "GROUP_BYTES", group)
    torch.use_deterministic_algorithms(True)
    try:
        (expected, expected_grads), (actual, actual_grads) = both_paths(
            131, is_causal=False, summaries=True, groups=2
        )
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(actual, expected, rtol=MODULE.relative, atol=MODULE.absolute)
    for got, want in zip(actual_grads, expected_grads, strict=True):
        scale = float(want.abs().max().clamp(min=1.0))
        torch.testing.assert_close(got, want, rtol=MODULE.relative, atol=MODULE.absolute * scale)


@pytest.mark.parametrize(
    ("is_causal", "summaries", "masked"), list(itertools.product([False, True], repeat=3))
)
def test_gradients_are_slopes(is_causal: bool, summaries: bool, masked: bool) -> None:
    """In float64, against finite differences: the backward pass is written by hand."""
    generator = torch.Generator().manual_seed(4)
    length, block_size = 15, 4
    shapes = [(2, 2, length, 3), (2, 1, length, 3), (2, 1, length, 2)]
    leaves = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    mask = torch.ones(2, length, dtype=torch.bool)
    if masked:
        mask[1, 6:] = False
    reach = reachable_blocks(valid_blocks(mask, block_size), 4, is_causal=is_causal)
    scores = torch.randn(2, 2, 4, 4, generator=generator)
    order, kept = ordered_selection(scores, torch.tensor([0.3, 0.7]), torch.tensor([3]), reach, window=0)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return gather_attention(
            query,
            key,
            value,
            order,
            kept,
            mask,
            reach,
            block_size=block_size,
            scale=0.6,
            summaries=summaries,
            is_causal=is_causal,
        )

    assert torch.autograd.gradcheck(attend, leaves)


def test_everything_selected_is_dense_attention() -> None:
    torch.manual_seed(0)
    sparse = SparseAttention(AttentionConfig(width=32, num_heads=4, value_filter=0)).eval()
    dense = SparseAttention(AttentionConfig(width=32, num_heads=4, value_filter=0, mode="dense")).eval()
    dense.load_state_dict(
        {k: v for k, v in sparse.state_dict().items() if "router" not in k and k in dense.state_dict()}
    )
    x = torch.randn(2, 83, 32)
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-5, atol=1e-6)


def test_fully_masked_sequence_gives_zeros_before_the_projection() -> None:
    length, heads = 33, 2
    mask = torch.zeros(1, length, dtype=torch.bool)
    query = torch.randn(1, heads, length, 8)
    valid = valid_blocks(mask, 16)
    reach = reachable_blocks(valid, 3, is_causal=False)
    order, kept = ordered_selection(
        torch.randn(1, heads, 3, 3), torch.ones(1), torch.tensor([9]), reach, window=1
    )
    output = gather_attention(
        query,
        query,
        query,
        order,
        kept,
        mask,
        reach,
        block_size=16,
        scale=1.0,
        summaries=True,
        is_causal=False,
    )
    assert torch.equal(output, torch.zeros_like(output))


@pytest.mark.parametrize("changed_from", [1, 16, 37, 64, 89])
def test_causal_attention_ignores_the_future(changed_from: int) -> None:
    torch.manual_seed(1)
    layer = SparseAttention(
        AttentionConfig(width=32, num_heads=2, block_size=8, window=0, is_causal=True)
    ).eval()
    torch.nn.init.normal_(layer.value_conv.weight)  # type: ignore[union-attr]
    layer.top_p.fill_(0.4)
    x = torch.randn(2, 90, 32)
    other = x.clone()
    other[:, changed_from:] = torch.randn_like(other[:, changed_from:]) * 5
    torch.testing.assert_close(layer(x)[:, :changed_from], layer(other)[:, :changed_from])


def test_padding_does_not_reach_real_tokens() -> None:
    torch.manual_seed(2)
    layer = SparseAttention(AttentionConfig(width=32, num_heads=2, block_size=8)).eval()
    torch.nn.init.normal_(layer.value_conv.weight)  # type: ignore[union-attr]
    layer.top_p.fill_(0.5)
    x = torch.randn(1, 61, 32)
    padded = torch.cat([x, torch.full((1, 30, 32), 1e3)], dim=1)
    mask = torch.arange(91)[None] < 61
    torch.testing.assert_close(layer(padded, mask)[:, :61], layer(x), rtol=1e-4, atol=1e-5)


def test_router_learns_the_true_block_mass() -> None:
    """With fixed q and k, its loss falls by more than half: the teacher's target can be represented."""
    torch.manual_seed(3)
    layer = SparseAttention(AttentionConfig(width=32, num_heads=2, block_size=8))
    layer.warmup = True
    x = torch.randn(4, 96, 32).cumsum(1) / 4
    optimizer = torch.optim.Adam(layer.router.parameters(), lr=0.02)  # type: ignore[union-attr]
    losses = []
    for _ in range(60):
        layer(x)
        assert layer.router_loss is not None
        optimizer.zero_grad()
        layer.router_loss.backward()
        optimizer.step()
        losses.append(float(layer.router_loss.detach()))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "`num_heads` must divide `width` (32); got 3."),
        ({"kv_num_heads": 3}, "`kv_num_heads` must divide `num_heads` (4); got 3."),
        ({"block_size": 0}, "`block_size` must be at least 1; got 0."),
        ({"window": -1}, "`window` must be at least 0; got -1."),
        ({"value_filter": 4}, "`value_filter` must be odd or 0; got 4."),
    ],
)
def test_bad_config_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=r"must") as caught:
        AttentionConfig(**({"width": 32, "num_heads": 4} | change))  # type: ignore[arg-type]
    assert message in str(caught.value)
