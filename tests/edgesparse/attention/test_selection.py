"""Block selection against the naive twin's plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgesparse.attention.reference import select_row
from edgesparse.attention.selection import (
    block_shares,
    ordered_selection,
    reachable_blocks,
    select_blocks,
    valid_blocks,
)


@settings(max_examples=200, deadline=None)
# A sum of exactly a half, which one of the two rounds below it.
@example(blocks=8, window=0, top_p=0.5, max_blocks=4, is_causal=False, seed=27513629)
@given(
    blocks=st.integers(1, 9),
    window=st.integers(0, 3),
    # Eighths are exact in float32: the running sum then has no rounding to disagree about.
    top_p=st.sampled_from([-1.0, 0.0, 0.125, 0.3, 0.5, 0.9, 1.0, 2.0, math.nan]),
    max_blocks=st.integers(0, 10),
    is_causal=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_matches_the_naive_rule(
    blocks: int, window: int, top_p: float, max_blocks: int, is_causal: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct scores, so that ties happen.
    scores = torch.randint(-2, 3, (2, 3, blocks, blocks), generator=generator).float()
    valid = torch.rand(2, blocks, generator=generator) < 0.8
    reach = reachable_blocks(valid, blocks, is_causal=is_causal)
    shares = block_shares(scores, reach)
    actual = select_blocks(scores, torch.full((3,), top_p), torch.tensor([max_blocks]), reach, window=window)
    for b in range(2):
        for h in range(3):
            for i in range(blocks):
                expected = select_row(
                    scores[b, h, i], reach[b, 0, i], i, window=window, top_p=top_p, max_blocks=max_blocks
                ).tolist()
                found = actual[b, h, i].tolist()
                # The running sum may fall on either side of `top_p`; who stopped there holds just that mass.
                masses = [float(shares[b, h, i][torch.tensor(kept)].sum()) for kept in (expected, found)]
                if top_p < 1 and min(abs(mass - top_p) for mass in masses) < 1e-5:
                    continue
                assert found == expected


def test_ties_go_to_the_lower_index() -> None:
    scores = torch.zeros(1, 1, 1, 6)
    reach = torch.ones(1, 1, 1, 6, dtype=torch.bool)
    kept = select_blocks(scores, torch.tensor([0.5]), torch.tensor([99]), reach, window=0)
    assert kept.flatten().tolist() == [True, True, True, False, False, False]


def test_top_p_differs_by_head() -> None:
    scores = torch.zeros(1, 2, 8, 8)
    reach = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    kept = select_blocks(scores, torch.tensor([0.25, 1.0]), torch.tensor([99]), reach, window=0)
    assert kept.sum(-1).unique(dim=-1).flatten().tolist() == [2, 8]


def test_odd_scores_do_not_break_the_shares() -> None:
    scores = torch.tensor([[math.nan, math.inf, 0.0], [math.nan] * 3, [-math.inf] * 3])[None, None]
    shares = block_shares(scores, torch.ones(1, 1, 3, 3, dtype=torch.bool))
    assert shares[0, 0].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("length", [1, 15, 16, 17])
def test_a_short_last_block_is_valid(length: int) -> None:
    mask = torch.ones(1, length, dtype=torch.bool)
    assert valid_blocks(mask, 16).shape == (1, -(-length // 16))
    assert valid_blocks(mask, 16).all()


def test_padding_never_wins_a_place() -> None:
    valid = torch.tensor([[True, True, False, False]])
    reach = reachable_blocks(valid, 4, is_causal=False)
    scores = torch.tensor([0.0, 0.0, 50.0, 50.0]).expand(1, 1, 4, 4)
    order, kept = ordered_selection(scores, torch.ones(1), torch.tensor([99]), reach, window=1)
    assert kept.sum(-1).flatten().tolist() == [2, 2, 2, 2]
    assert not (order[kept] >= 2).any()
