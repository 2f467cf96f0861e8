"""Sparse attention against onnxruntime's fused dense attention, interleaved in one process.

`python -m benchmarks.attention -o bench-results` writes attention.json and attention.png. Pin the process to
one core (`taskset -c 0`) where other work runs. No speed-up is printed for a case whose parity is not met.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgesparse_runtime.library import get_library_path, register
from tests.kernels.models import Shape, make_feeds, make_model
from tests.kernels.reference import Attributes

BLOCK = 64
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
HEADS = ((4, 32), (8, 64), (12, 32), (6, 64))
DENSITIES = (0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Figure:
    """Median seconds of one case, and medians of the ratio of dense to sparse taken in turns."""

    tokens: int
    heads: int
    head_size: int
    density: float
    threads: int
    dense: float
    float32: float
    int8: float
    float32_ratio: float
    int8_ratio: float
    int8_over_float32: float
    float32_gflops: float
    dense_gflops: float
    float32_error: float
    int8_error: float


def dense_model(heads: int) -> bytes:
    """onnxruntime's fused dense attention."""
    node = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["o"], domain="com.microsoft", num_heads=heads
    )
    values = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 3) for x in "qkvo"]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "dense", values[:3], values[3:])
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return content


def open_model(model: bytes, library: str | None, threads: int) -> onnxruntime.InferenceSession:
    """A session with `threads` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if library:
        engine = register(options, library)
        assert engine.isa, engine
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def expected_rows(
    feeds: dict[str, np.ndarray], selection: np.ndarray, heads: int, rows: list[int]
) -> np.ndarray:
    """float64 outputs of head 0 at some rows, from the selection that the kernel reports."""
    size = feeds["query"].shape[2] // heads
    q, k, v = (feeds[name][0, :, :size].astype(np.float64) for name in ("query", "key", "value"))
    blocks = len(k) // BLOCK
    mean_k, mean_v = (x.reshape(blocks, BLOCK, size).mean(1) for x in (k, v))
    found = []
    for row in rows:
        kept = selection[0, 0, row // BLOCK]
        tokens = np.repeat(kept, BLOCK)
        logit = np.concatenate([k[tokens] @ q[row], mean_k[~kept] @ q[row]]) * size**-0.5
        logit[int(tokens.sum()) :] += np.log(BLOCK)
        weight = np.exp(logit - logit.max())
        found.append(weight @ np.concatenate([v[tokens], mean_v[~kept]]) / weight.sum())
    return np.array(found)


def measure(
    library: str, tokens: int, heads: int, size: int, density: float, threads: int = 1, seconds: float = 3.0
) -> Figure:
    """Times dense, float32 and int8 in turns for about `seconds`."""
    kept = max(1, round(density * tokens / BLOCK))
    feeds = dict(
        make_feeds(Shape(tokens, tokens, heads, heads, size, size), BLOCK, top_p=1.0, max_blocks=kept)
    )
    sessions = [open_model(dense_model(heads), None, threads)]
    node = Attributes(num_heads=heads, kv_num_heads=heads, block_size=BLOCK, scale=size**-0.5)
    errors = []
    for precision in ("float32", "int8"):
        attributes = {**asdict(node), "precision": precision}
        output, selection = open_model(make_model(attributes).SerializeToString(), library, threads).run(
            None, feeds
        )
        rows = list(range(0, tokens, max(1, tokens // 31)))
        exact = expected_rows(feeds, selection, heads, rows)
        found = output[0, rows, :size]
        errors.append(float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))))
        model = make_model(attributes, with_selection=False)
        sessions.append(open_model(model.SerializeToString(), library, threads))
    dense_feeds = {"q": feeds["query"], "k": feeds["key"], "v": feeds["value"]}
    times: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(times) < 6 or (time.perf_counter() < end and len(times) < 400):
        turn = []
        for session, inputs in zip(sessions, (dense_feeds, feeds, feeds), strict=True):
            start = time.perf_counter()
            session.run(None, inputs)
            turn.append(time.perf_counter() - start)
        times.append(turn)
    taken = np.array(times[1:])
    dense, float32, int8 = np.median(taken, axis=0)
    flops = 4 * tokens * tokens * size * heads
    share = kept * BLOCK / tokens + (1 / BLOCK if kept * BLOCK < tokens else 0)
    return Figure(
        tokens, heads, size, density, threads, dense, float32, int8,
        float(np.median(taken[:, 0] / taken[:, 1])),
        float(np.median(taken[:, 0] / taken[:, 2])),
        float(np.median(taken[:, 1] / taken[:, 2])),
        flops * share / float32 / 1e9, flops / dense / 1e9, errors[0], errors[1],
    )  # fmt: skip


def describe_machine(library: str) -> dict[str, str]:
    """What a figure is worth nothing without."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        processor = names[0].split(":")[1].strip() if names else processor
    return {
        "processor": processor,
        "engine": str(register(onnxruntime.SessionOptions(), library)),
        "onnxruntime": onnxruntime.__version__,
        "onnx": onnx.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def plot(figures: list[Figure], path: Path) -> None:
    """Speed-up over dense by length, a line for each density."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chart, axes = pyplot.subplots(figsize=(8, 5))
    for heads, size in sorted({(f.heads, f.head_size) for f in figures}):
        for density in sorted({f.density for f in figures}):
            some = [f for f in figures if (f.heads, f.head_size, f.density) == (heads, size, density)]
            axes.plot(
                [f.tokens for f in some],
                [f.float32_ratio for f in some],
                label=f"H{heads} D{size} {density:.1%}",
            )
    axes.axhline(1.0, color="grey")
    axes.set(
        xscale="log", yscale="log", xlabel="tokens", ylabel="speed-up over fused dense attention (float32)"
    )
    axes.legend(fontsize=6)
    chart.savefig(path, dpi=120)


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-results"))
    parser.add_argument("--library", default=get_library_path())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    options = parser.parse_args()
    if options.library is None:
        parser.error("the operator library is not installed: name one with --library")
    machine = describe_machine(options.library)
    print(json.dumps(machine))
    figures = []
    for heads, size in HEADS:
        for tokens in options.lengths:
            for density in DENSITIES:
                f = measure(options.library, tokens, heads, size, density, options.threads, options.seconds)
                figures.append(f)
                line = f"N {tokens} H {heads} D {size} {density:.1%}: dense {f.dense * 1e3:.2f} ms"
                if f.float32_error > 1e-5 or f.int8_error > 0.02:
                    print(
                        f"{line}; parity is not met ({f.float32_error:.1e}, {f.int8_error:.1e}): no speed-up"
                    )
                    continue
                print(
                    f"{line}, float32 x{f.float32_ratio:.2f} ({f.float32_gflops:.0f} GFLOP/s), "
                    f"int8 x{f.int8_ratio:.2f}"
                )
    options.output.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "figures": [asdict(f) for f in figures]}
    (options.output / "attention.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(figures, options.output / "attention.png")


if __name__ == "__main__":
    main()
