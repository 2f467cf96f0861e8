"""What fixed choices of blocks reach on Whisper's encoder: the bound for any router, and the block size.

`python -m benchmarks.dropin.oracle` prints the mean cosine of the encoder's states to the dense ones at 20 %
density on two windows of speech. "band" and "pooled" need no dense attention; the others choose by what
dense attention gave to a block: the mean, root mean square or largest value over the block's queries. Pairs
of blocks are chosen a layer, so that heads share what they have ("band": each row alike).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from benchmarks.dropin.compare import print_rows
from benchmarks.dropin.whisper import load_whisper, read_clips
from edgesparse.attention.attributes import Attributes
from edgesparse.attention.core import NO_CAP
from edgesparse.attention.gather import sparse_attention
from edgesparse.attention.heads import merge_heads, split_heads

DENSITY = 0.2
RULES = ("band", "pooled", "mean", "root mean square", "largest")
NAME = "edgesparse_oracle"


@dataclass
class _Choice:
    """What the attention function is to do next."""

    block_size: int = 32
    rule: str = "mean"
    summaries: bool = True


_choice = _Choice()


def choose_blocks(query: Tensor, key: Tensor, scale: float, block_size: int, rule: str) -> Tensor:
    """Kept pairs of blocks [B, H, K, K] at `DENSITY`, own blocks among them."""
    batch, heads, length, _ = query.shape
    blocks = -(-length // block_size)
    rest = blocks * block_size - length
    index = torch.arange(blocks)
    if rule == "band":
        score = -(index[:, None] - index).abs().float().expand(batch, heads, -1, -1)
    elif rule == "pooled":
        starts = range(0, length, block_size)
        pooled_query, pooled_key = (
            torch.stack([x[:, :, i : i + block_size].mean(2) for i in starts], dim=2) for x in (query, key)
        )
        score = (pooled_query @ pooled_key.mT * scale).softmax(-1)
    else:
        weights = torch.nn.functional.pad((query @ key.mT * scale).softmax(-1), (0, rest, 0, rest))
        mass = weights.view(batch, heads, blocks, block_size, blocks, block_size).sum(-1)
        score = {"mean": mass.mean(3), "root mean square": mass.square().mean(3), "largest": mass.amax(3)}[
            rule
        ]
    score = score.masked_fill(torch.eye(blocks, dtype=torch.bool), torch.inf)
    count = round(DENSITY * blocks * blocks * heads)
    if rule == "band":
        each = max(1, round(DENSITY * blocks))
        return torch.zeros_like(score, dtype=torch.bool).scatter(-1, score.topk(each).indices, True)
    least = score.flatten(1).topk(count).values[:, -1]
    return score >= least[:, None, None, None]


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float = 1.0, **_: Any
) -> tuple[Tensor, None]:
    kept = choose_blocks(query, key, scaling, _choice.block_size, _choice.rule)
    real = torch.ones(query.shape[0], query.shape[2], dtype=torch.bool)
    heads = query.shape[1]
    # Equal shares for the blocks wanted, none for the others: 0.999 of the mass is all of them.
    mixed, selection = sparse_attention(
        merge_heads(query), merge_heads(key), merge_heads(value),
        torch.zeros(kept.shape).masked_fill(~kept, -torch.inf), torch.tensor([0.999]), torch.tensor([NO_CAP]),
        real,
        attributes=Attributes(heads, heads, _choice.block_size, scaling, summaries=int(_choice.summaries)),
    )  # fmt: skip
    assert torch.equal(selection, kept)
    return split_heads(mixed, heads).transpose(1, 2).contiguous(), None


def main() -> None:
    """Print the table."""
    AttentionInterface.register(NAME, _attention)
    encoder = load_whisper().model.encoder
    clips = [clip.features for clip in read_clips(("two_cities",))]
    rows = []
    with torch.no_grad():
        dense = [encoder(x).last_hidden_state for x in clips]
        encoder.set_attn_implementation(NAME)
        for rule in RULES:
            for summaries in (True, False):
                row: dict[str, object] = {"blocks by": rule, "summaries": "yes" if summaries else "no"}
                for size in (64, 32, 16):
                    _choice.block_size, _choice.rule, _choice.summaries = size, rule, summaries
                    near = [
                        torch.cosine_similarity(encoder(x).last_hidden_state, y, dim=-1).mean()
                        for x, y in zip(clips, dense, strict=True)
                    ]
                    row[f"blocks of {size}"] = float(torch.stack(near).mean())
                rows.append(row)
    print_rows(rows)


if __name__ == "__main__":
    main()
