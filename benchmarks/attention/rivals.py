"""The rivals: dense attention of onnxruntime and PyTorch, and block-sparse attention of both.

| rival | computes | compared with |
|---|---|---|
| fused dense | `com.microsoft.MultiHeadAttention` | our float32, int8 |
| torch sdpa | `scaled_dot_product_attention`, dense | our float32 |
| torch flex | `flex_attention`, compiled, `BlockMask` of our kernel's blocks | our float32 |
| ort sparse | `com.microsoft.SparseAttention` with those of our causal kernel | our causal float32 |

PyTorch gets its inputs as contiguous [B, H, N, D]; the transposes to that layout are not counted, nor is the
time to compile. Neither sparse rival chooses blocks or sums up dropped ones: they do less than our kernel.

`com.microsoft.SparseAttention` works in a restricted form only: causal, a static layout in compressed rows
(`block_row_indices` [L, NQ + 1], `block_col_indices` [L, most blocks], padded with -1; we give it a layout a
head), and with a key/value cache [B, H, N, D] as input and output in the same memory, so it is compared with
our kernel in causal form without summaries, on the same blocks. Early query blocks have fewer blocks before
them than the density asks for, on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention.case import BLOCK, Case, Contender, relative_error
from benchmarks.attention.ours import causal_flops, open_session

MICROSOFT = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
# onnxruntime's SparseAttention keeps all probabilities [H, N, N].
MOST_PROBABILITIES = 4 * 2**30


def all_blocks(case: Case) -> NDArray[np.bool_]:
    """[H, NQ, NK], all true."""
    return np.ones((case.heads, case.blocks, case.blocks), dtype=bool)


def make_fused_dense(case: Case) -> Contender:
    """onnxruntime's fused dense attention."""
    node = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["o"], domain="com.microsoft", num_heads=case.heads
    )
    values = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 3) for x in "qkvo"]
    graph = helper.make_graph([node], "dense", values[:3], values[3:])
    model = helper.make_model(graph, opset_imports=MICROSOFT, ir_version=10).SerializeToString()
    session = open_session(model, None, case.threads)
    feeds = {"q": case.feeds["query"], "k": case.feeds["key"], "v": case.feeds["value"]}
    output = session.run(None, feeds)[0][0]
    error = relative_error(case, output, all_blocks(case))
    return Contender("fused dense", lambda: session.run(None, feeds), case.dense_flops, error)


def torch_inputs(case: Case) -> list[torch.Tensor]:
    """Query, key and value as contiguous [1, H, N, D]."""
    shape = (1, case.tokens, case.heads, case.head_size)
    tensors = (torch.from_numpy(case.feeds[name]) for name in ("query", "key", "value"))
    return [x.view(shape).transpose(1, 2).contiguous() for x in tensors]


def _packed(case: Case, output: torch.Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = output[0].transpose(0, 1).reshape(case.tokens, -1).numpy()
    return rows


def _without_gradients(call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return call()

    return run


def make_torch_dense(case: Case) -> Contender:
    """PyTorch's `scaled_dot_product_attention`."""
    torch.set_num_threads(case.threads)
    q, k, v = torch_inputs(case)
    call = _without_gradients(lambda: scaled_dot_product_attention(q, k, v))
    error = relative_error(case, _packed(case, call()), all_blocks(case))
    return Contender("torch sdpa", call, case.dense_flops, error)


@lru_cache(maxsize=1)
def _compiled_flex(tokens: int, heads: int, head_size: int, threads: int) -> Callable[..., Any]:
    """One compilation a shape and thread count, shared by its densities."""
    torch._dynamo.reset()
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return compiled


def make_torch_flex(case: Case, selection: NDArray[np.bool_]) -> Contender | str:
    """PyTorch's `flex_attention` on the blocks [H, NQ, NK], or why it is not available."""
    torch.set_num_threads(case.threads)
    q, k, v = torch_inputs(case)
    kept = torch.from_numpy(selection)[None]
    count = kept.sum(-1).int()
    order = torch.argsort(kept.int(), dim=-1, descending=True, stable=True).int()
    # All kept blocks are full: no mask inside a block.
    mask = BlockMask.from_kv_blocks(
        torch.zeros_like(count),
        torch.zeros_like(order),
        count,
        order,
        BLOCK_SIZE=BLOCK,
        seq_lengths=(case.tokens, case.tokens),
    )
    compiled = _compiled_flex(case.tokens, case.heads, case.head_size, case.threads)
    call = _without_gradients(lambda: compiled(q, k, v, block_mask=mask))
    try:
        output = call()
    except Exception as error:  # no C++ compiler, an unsupported shape: whatever its compiler raises
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    flops = case.dense_flops * float(selection.mean())
    return Contender("torch flex", call, flops, relative_error(case, _packed(case, output), selection))


def compress_rows(selection: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`block_row_indices` [H, NQ + 1] and `block_col_indices` [H, most], padded with -1, of [H, NQ, NK]."""
    counts = selection.sum(2)
    rows = np.concatenate([np.zeros((len(counts), 1), int), counts.cumsum(1)], axis=1)
    columns = np.full((len(counts), int(rows[:, -1].max())), -1)
    for head, kept in enumerate(selection):
        columns[head, : rows[head, -1]] = kept.nonzero()[1]
    return rows.astype(np.int32), columns.astype(np.int32)


def make_ort_sparse(case: Case, selection: NDArray[np.bool_]) -> Contender | str:
    """onnxruntime's SparseAttention on causal blocks [H, NQ, NK], or why it is not run."""
    probabilities = 4 * case.heads * case.tokens**2
    if probabilities > MOST_PROBABILITIES:
        return f"keeps {probabilities / 2**30:.1f} GiB of probabilities"
    node = helper.make_node(
        "SparseAttention",
        ["q", "k", "v", "past_k", "past_v", "rows", "columns", "total", "lengths"],
        ["o", "new_k", "new_v"],
        domain="com.microsoft",
        num_heads=case.heads,
        kv_num_heads=case.heads,
        sparse_block_size=BLOCK,
    )
    packed = [1, case.tokens, case.heads * case.head_size]
    cache = [1, case.heads, case.tokens, case.head_size]
    of = helper.make_tensor_value_info
    real, whole = TensorProto.FLOAT, TensorProto.INT32
    inputs = [of(x, real, packed) for x in "qkv"] + [of(x, real, cache) for x in ("past_k", "past_v")]
    inputs += [of(x, whole, [None, None]) for x in ("rows", "columns")]
    inputs += [of(x, whole, [1]) for x in ("total", "lengths")]
    outputs = [of("o", real, packed), of("new_k", real, cache), of("new_v", real, cache)]
    graph = helper.make_graph([node], "sparse", inputs, outputs)
    model = helper.make_model(graph, opset_imports=MICROSOFT, ir_version=10).SerializeToString()
    session = open_session(model, None, case.threads)
    rows, columns = compress_rows(selection)
    length = np.array([case.tokens], dtype=np.int32)
    feeds = {"q": case.feeds["query"], "k": case.feeds["key"], "v": case.feeds["value"], "rows": rows}
    feeds |= {"columns": columns, "total": length, "lengths": length}
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    binding.bind_output("o")
    for name in "kv":
        memory = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(cache, dtype=np.float32))
        binding.bind_ortvalue_input(f"past_{name}", memory)
        binding.bind_ortvalue_output(f"new_{name}", memory)
    session.run_with_iobinding(binding)
    output = binding.get_outputs()[0].numpy()[0]
    error = relative_error(case, output, selection, causal=True)
    return Contender(
        "ort sparse",
        lambda: session.run_with_iobinding(binding),
        causal_flops(case, selection),
        error,
    )
