"""One training step of an attention layer, forward and backward: sparse against PyTorch's dense attention.

`python -m benchmarks.training_step` prints a table and writes bench-results/training_step.json. No ratio
is printed where the fast path does not equal the naive twin. The router and its loss are part of the step.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.interleaved import ratio, take_turns
from benchmarks.machine import describe_machine
from edgesparse.attention import AttentionConfig, SparseAttention
from edgesparse.attention_gather import gather_attention
from edgesparse.attention_reference import reference_attention
from edgesparse.selection import block_count, ordered_selection, reachable_blocks, valid_blocks


def paths_agree(config: AttentionConfig, length: int) -> bool:
    """Whether gathering equals the naive twin at this shape, to 1e-5."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, config.num_heads, length, config.head_size)
    mask = torch.ones(1, length, dtype=torch.bool)
    blocks = block_count(length, config.block_size)
    reach = reachable_blocks(valid_blocks(mask, config.block_size), blocks, is_causal=False)
    order, kept = ordered_selection(
        torch.randn(1, config.num_heads, blocks, blocks),
        torch.ones(1),
        torch.tensor([max(blocks // 4, 1)]),
        reach,
        window=1,
    )
    rule = {"block_size": config.block_size, "scale": 0.2, "summaries": True, "is_causal": False}
    fast = gather_attention(query, key, value, order, kept, mask, reach, **rule)  # type: ignore[arg-type]
    selection = torch.zeros_like(kept).scatter(-1, order, kept)
    naive = reference_attention(query, key, value, selection, mask, reach, **rule)  # type: ignore[arg-type]
    return bool((fast - naive).abs().max() < 1e-5)


def measure(
    length: int, *, width: int, heads: int, block_size: int, density: float, batch: int, seconds: float
) -> dict[str, object]:
    """Ratio of a dense to a sparse step at this length."""
    shape = {"width": width, "num_heads": heads, "block_size": block_size, "window": 1}
    sparse = SparseAttention(AttentionConfig(**shape, mode="sparse")).train()  # type: ignore[arg-type]
    dense = SparseAttention(AttentionConfig(**shape, mode="dense")).train()  # type: ignore[arg-type]
    sparse.max_blocks.fill_(max(round(density * block_count(length, block_size)), 1))
    x = torch.randn(batch, length, width, requires_grad=True)

    def step(layer: SparseAttention) -> None:
        loss = layer(x).square().mean()
        if layer.router_loss is not None:
            loss = loss + layer.router_loss
        loss.backward()

    times = take_turns({"sparse": lambda: step(sparse), "dense": lambda: step(dense)}, seconds=seconds)
    return {
        "length": length,
        "block_size": block_size,
        "density": density,
        "heads": heads,
        "width": width,
        "batch": batch,
    } | asdict(ratio(times["sparse"], times["dense"]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--density", type=float, default=0.25, help="share of the blocks that is kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="a length")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-results/training_step.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    print(
        f"one attention layer, forward + backward, {arguments.threads} thread(s), "
        f"{arguments.density:.0%} of the blocks"
    )
    print(f"{'tokens':>7} {'block':>5} {'sparse ms':>10} {'dense ms':>9}   times faster [95 %]")
    for length in arguments.lengths:
        block_size = 32 if length < 1024 else 64
        config = AttentionConfig(width=128, num_heads=4, block_size=block_size)
        if not paths_agree(config, length):
            print(f"{length:>7} {block_size:>5}   no ratio: the fast path does not equal the naive twin")
            continue
        row = measure(
            length,
            width=128,
            heads=4,
            block_size=block_size,
            density=arguments.density,
            batch=4,
            seconds=arguments.seconds,
        )
        rows.append(row)
        times = f"{row['ours_ms']:>10.1f} {row['rival_ms']:>9.1f}"
        interval = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        print(f"{length:>7} {block_size:>5} {times}   {interval}", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        json.dumps({"machine": describe_machine(arguments.threads), "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
