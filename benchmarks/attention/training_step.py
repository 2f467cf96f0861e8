"""One training step of an attention layer, forward and backward: sparse against PyTorch's dense attention.

`python -m benchmarks.attention.training_step` prints a table and writes bench-results/training_step.json. No
ratio is printed where the fast path does not equal the naive twin. The router and its loss are part of the
step. Peak memory is what a fresh process needs for one step on top of the layer and its input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.support.interleaved import find_ratio, time_by_name
from benchmarks.support.machine import describe_machine
from edgesparse.attention import gather, reference
from edgesparse.attention.layer import AttentionConfig, SparseAttention
from edgesparse.attention.selection import block_count

# Series a step.
BATCH = 4


def paths_agree(config: AttentionConfig, length: int) -> bool:
    """Whether gathering equals the naive twin at this shape, to 1e-5."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, length, config.width)
    blocks = block_count(length, config.block_size)
    inputs = (
        query,
        key,
        value,
        torch.randn(1, config.num_heads, blocks, blocks),
        torch.ones(1),
        torch.tensor([max(blocks // 4, 1)]),
        torch.ones(1, length, dtype=torch.bool),
    )
    fast, selection = gather.sparse_attention(*inputs, attributes=config.attributes)
    naive, expected = reference.sparse_attention(*inputs, attributes=config.attributes)
    return torch.equal(selection, expected) and bool((fast - naive).abs().max() < 1e-5)


def make_layer(mode: str, length: int, density: float) -> tuple[SparseAttention, torch.Tensor]:
    """A layer of width 128 and its input."""
    shape = {"width": 128, "num_heads": 4, "block_size": choose_block_size(length), "window": 1}
    layer = SparseAttention(AttentionConfig(**shape, mode=mode)).train()  # type: ignore[arg-type]
    if mode == "sparse":
        layer.max_blocks.fill_(max(round(density * block_count(length, layer.config.block_size)), 1))
    return layer, torch.randn(BATCH, length, 128, requires_grad=True)


def choose_block_size(length: int) -> int:
    return 32 if length < 1024 else 64


def step(layer: SparseAttention, x: torch.Tensor) -> None:
    """Forward and backward, the router's loss included."""
    output, record = layer(x)
    loss = output.square().mean()
    if record.router_loss is not None:
        loss = loss + record.router_loss
    loss.backward()


def measure(length: int, density: float, seconds: float, threads: int) -> dict[str, object]:
    """Ratio of a dense to a sparse step at this length, and the memory of each."""
    layers = {mode: make_layer(mode, length, density) for mode in ("sparse", "dense")}
    times = time_by_name(
        {mode: lambda made=made: step(*made) for mode, made in layers.items()},  # type: ignore[misc]
        seconds=seconds,
    )
    return (
        {"length": length, "block_size": choose_block_size(length), "density": density}
        | {"heads": 4, "width": 128, "batch": BATCH}
        | asdict(find_ratio(times["sparse"], times["dense"]))
        | {f"{mode}_peak_mb": peak_memory(mode, length, density, threads) for mode in layers}
    )


def peak_memory(mode: str, length: int, density: float, threads: int) -> float:
    """MB that a fresh process' peak grows by in one step."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.attention.training_step",
        "--peak-of",
        mode,
        "--lengths",
        str(length),
    ]
    command += ["--density", str(density), "--threads", str(threads)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout)


def print_peak(mode: str, length: int, density: float) -> None:
    """The growth of this process' peak; a short step first, so that libraries are loaded."""
    step(*make_layer(mode, 128, 1.0))
    made = make_layer(mode, length, density)
    before = peak_kb()
    step(*made)
    print((peak_kb() - before) / 1024)


def peak_kb() -> int:
    """Highest resident memory so far (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--density", type=float, default=0.25, help="share of the blocks that is kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="a length")
    parser.add_argument("--peak-of", choices=["sparse", "dense"], help="print one step's peak memory in MB")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-results/training_step.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        print_peak(arguments.peak_of, arguments.lengths[0], arguments.density)
        return
    rows = []
    print(
        f"one attention layer, forward + backward, {arguments.threads} thread(s), "
        f"{arguments.density:.0%} of the blocks"
    )
    print(
        f"{'tokens':>7} {'block':>5} {'sparse ms':>10} {'dense ms':>9}   times faster [95 %]   "
        "peak MB, sparse and dense"
    )
    for length in arguments.lengths:
        block_size = choose_block_size(length)
        config = AttentionConfig(width=128, num_heads=4, block_size=block_size)
        if not paths_agree(config, length):
            print(f"{length:>7} {block_size:>5}   no ratio: the fast path does not equal the naive twin")
            continue
        row = measure(length, arguments.density, arguments.seconds, arguments.threads)
        rows.append(row)
        times = f"{row['ours_ms']:>10.1f} {row['rival_ms']:>9.1f}"
        interval = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        peaks = f"{row['sparse_peak_mb']:.0f} and {row['dense_peak_mb']:.0f}"
        print(f"{length:>7} {block_size:>5} {times}   {interval}   {peaks}", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        json.dumps({"machine": describe_machine(arguments.threads), "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
