"""The gathering fast path against the naive twin, forward and backward, and the rules of the module."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from edgesparse.attention import gather, reference
from edgesparse.attention.attributes import Attributes
from edgesparse.attention.layer import AttentionConfig, SparseAttention
from edgesparse.attention.record import attention_records
from edgesparse.attention.selection import block_count
from tests.support.tolerances import MODULE

LENGTHS = [1, 15, 16, 17, 63, 64, 65, 97, 131]


def both_paths(
    length: int, *, is_causal: bool, summaries: bool, groups: int, seed: int = 0, masked: bool = True
) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
    """Output, selection and gradients of reference and fast path on the same input."""
    generator = torch.Generator().manual_seed(seed)
    batch, heads, size, value_size, block_size = 3, 4, 8, 6, 16
    query = torch.randn(batch, length, heads * size, generator=generator)
    key = torch.randn(batch, length, groups * size, generator=generator)
    value = torch.randn(batch, length, groups * value_size, generator=generator)
    mask = torch.ones(batch, length, dtype=torch.bool)
    if masked:
        mask[1, length // 2 :] = False
        mask[2] = torch.rand(length, generator=generator) < 0.7
    blocks = block_count(length, block_size)
    scores = torch.randn(batch, heads, blocks, blocks, generator=generator)
    top_p, most = torch.tensor([0.2, 0.5, 0.8, 1.0]), torch.tensor([5])
    attributes = Attributes(heads, groups, block_size, 0.3, 1, int(summaries), int(is_causal))
    results = []
    for path in (reference.sparse_attention, gather.sparse_attention):
        leaves = [x.clone().requires_grad_() for x in (query, key, value)]
        output, selection = path(*leaves, scores, top_p, most, mask, attributes=attributes)
        weight = torch.linspace(-1, 1, output.numel()).view_as(output)
        gradients = torch.autograd.grad((output * weight).sum(), leaves)
        results.append((output, selection, list(gradients)))
    return results


def check_paths(results: list[tuple[Tensor, Tensor, list[Tensor]]]) -> None:
    (expected, expected_selection, expected_grads), (actual, selection, actual_grads) = results
    assert torch.equal(selection, expected_selection)
    torch.testing.assert_close(actual, expected, rtol=MODULE.relative, atol=MODULE.absolute)
    for got, want in zip(actual_grads, expected_grads, strict=True):
        # A gradient sums over up to 131 rows; its scale, not each entry, is what the tolerance is of.
        scale = float(want.abs().max().clamp(min=1.0))
        torch.testing.assert_close(got, want, rtol=MODULE.relative, atol=MODULE.absolute * scale)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("is_causal", "summaries", "groups"), list(itertools.product([False, True], [False, True], [2, 4]))
)
def test_fast_path_equals_reference(length: int, is_causal: bool, summaries: bool, groups: int) -> None:
    check_paths(both_paths(length, is_causal=is_causal, summaries=summaries, groups=groups))


@pytest.mark.parametrize(("piece", "group"), [(1, 1), (20_000, 1 << 30), (1 << 30, 3_000)])
def test_pieces_do_not_matter(piece: int, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One query block at a time or all at once, on buffers that start as NaN."""
    monkeypatch.setattr(gather, "PIECE_BYTES", piece)
    monkeypatch.setattr(gather, "GROUP_BYTES", group)
    torch.use_deterministic_algorithms(True)
    try:
        results = both_paths(131, is_causal=False, summaries=True, groups=2)
    finally:
        torch.use_deterministic_algorithms(False)
    check_paths(results)


@pytest.mark.parametrize(
    ("is_causal", "summaries", "masked"), list(itertools.product([False, True], repeat=3))
)
def test_gradients_are_slopes(is_causal: bool, summaries: bool, masked: bool) -> None:
    """In float64, against finite differences: the backward pass is written by hand."""
    generator = torch.Generator().manual_seed(4)
    length, block_size = 15, 4
    widths = [2 * 3, 3, 2]
    leaves = [
        torch.randn(2, length, width, generator=generator, dtype=torch.float64, requires_grad=True)
        for width in widths
    ]
    mask = torch.ones(2, length, dtype=torch.bool)
    if masked:
        mask[1, 6:] = False
    scores = torch.randn(2, 2, 4, 4, generator=generator)
    attributes = Attributes(2, 1, block_size, 0.6, 0, int(summaries), int(is_causal))

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return gather.sparse_attention(
            query,
            key,
            value,
            scores,
            torch.tensor([0.3, 0.7]),
            torch.tensor([3]),
            mask,
            attributes=attributes,
        )[0]

    assert torch.autograd.gradcheck(attend, leaves)


def test_everything_selected_is_dense_attention() -> None:
    torch.manual_seed(0)
    sparse = SparseAttention(AttentionConfig(width=32, num_heads=4, value_filter=0)).eval()
    dense = SparseAttention(AttentionConfig(width=32, num_heads=4, value_filter=0, mode="dense")).eval()
    dense.load_state_dict(
        {k: v for k, v in sparse.state_dict().items() if "router" not in k and k in dense.state_dict()}
    )
    x = torch.randn(2, 83, 32)
    torch.testing.assert_close(sparse(x)[0], dense(x)[0], rtol=1e-5, atol=1e-6)


def test_fully_masked_sequence_gives_zeros_before_the_projection() -> None:
    query, scores = torch.randn(1, 33, 16), torch.randn(1, 2, 3, 3)
    nothing = torch.zeros(1, 33, dtype=torch.bool)
    for path in (reference.sparse_attention, gather.sparse_attention):
        output, selection = path(
            query,
            query,
            query,
            scores,
            torch.ones(1),
            torch.tensor([9]),
            nothing,
            attributes=Attributes(2, 2, window=1),
        )
        assert torch.equal(output, torch.zeros_like(output))
        assert not selection.any()


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
    torch.testing.assert_close(layer(x)[0][:, :changed_from], layer(other)[0][:, :changed_from])


def test_padding_does_not_reach_real_tokens() -> None:
    torch.manual_seed(2)
    layer = SparseAttention(AttentionConfig(width=32, num_heads=2, block_size=8)).eval()
    torch.nn.init.normal_(layer.value_conv.weight)  # type: ignore[union-attr]
    layer.top_p.fill_(0.5)
    x = torch.randn(1, 61, 32)
    padded = torch.cat([x, torch.full((1, 30, 32), 1e3)], dim=1)
    mask = torch.arange(91)[None] < 61
    torch.testing.assert_close(layer(padded, mask)[0][:, :61], layer(x)[0], rtol=1e-4, atol=1e-5)


def test_router_learns_the_true_block_mass() -> None:
    """With fixed q and k, its loss falls by more than half: its target can be represented."""
    torch.manual_seed(3)
    layer = SparseAttention(AttentionConfig(width=32, num_heads=2, block_size=8))
    layer.warmup = True
    x = torch.randn(4, 96, 32).cumsum(1) / 4
    optimizer = torch.optim.Adam(layer.router.parameters(), lr=0.02)  # type: ignore[union-attr]
    losses = []
    for _ in range(60):
        _, record = layer(x)
        optimizer.zero_grad()
        record.router_loss.backward()
        optimizer.step()
        losses.append(float(record.router_loss.detach()))
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


def test_a_pass_returns_what_it_did() -> None:
    torch.manual_seed(0)
    layer = SparseAttention(AttentionConfig(width=32, num_heads=2, block_size=8))
    layer.max_blocks.fill_(4)
    mask = torch.arange(60)[None] < torch.tensor([60, 33])[:, None]
    _, record = layer(torch.randn(2, 60, 32), mask)
    assert record.selection.shape == (2, 2, 8, 8) and record.router_loss.requires_grad
    assert int(record.selection.sum(-1).max()) == 4
    assert not record.selection[1, :, :, 5:].any() and not record.reach[1, :, :, 5:].any()
    assert 0 < float(record.flops) < float(record.dense_flops) * 2
    assert float(record.dense_flops) == 4 * 2 * 16 * (60**2 + 33**2)
    assert layer.eval()(torch.randn(1, 60, 32))[1].router_loss is None
    layer.warmup = True
    assert layer(torch.randn(1, 60, 32))[1].selection is None


def test_records_are_collected_while_the_context_is_open() -> None:
    layers = torch.nn.ModuleList([SparseAttention(AttentionConfig(32, 2)) for _ in range(2)])
    x = torch.randn(1, 40, 32)
    with attention_records(layers) as records:
        for layer in reversed(layers):
            layer(x)
    first = records[layers[0]]
    assert list(records) == [layers[1], layers[0]] and first.selection is not None
    layers[0](x)
    assert records[layers[0]] is first
