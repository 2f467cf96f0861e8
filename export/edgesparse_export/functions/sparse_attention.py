"""`edgesparse::SparseAttention` as a model-local ONNX function: standard ops, gathers only selected blocks.

It is specification, fallback and test oracle in one (DESIGN section 3): a stock onnxruntime without our
library runs this, and so does `onnx.reference`. Its steps are in `functions/attention_parts.py`.

The file cannot postpone its annotations: onnxscript reads them. Shape legend as there.
"""

# onnxscript compiles this function from its source: to a type checker its int64 scalars are not tensors.
# mypy: ignore-errors

import onnx_ir as ir
from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.attention_parts import PARTS
from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.functions.inline import inline_calls

_edgesparse = Opset(DOMAIN, VERSION)


# One function: the operator's body in the file is one too; its longer steps are in attention_parts.py.
@script(_edgesparse, default_opset=op)
def SparseAttention(
    query: FLOAT["B", "N", "HD"],
    key: FLOAT["B", "M", "GD"],
    value: FLOAT["B", "M", "GE"],
    block_scores: FLOAT["B", "H", "Q", "K"],
    top_p: FLOAT["P"],
    max_blocks: INT64[1],
    key_mask: BOOL["B", "M"],
    num_heads: int,
    kv_num_heads: int,
    block_size: int,
    scale: float,
    window: int,
    summaries: int,
    is_causal: int,
    precision: str = "float32",
):
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[-1])
    heads = op.Constant(value_int=num_heads)
    heads_1 = op.Reshape(heads, one)
    groups_1 = op.Reshape(op.Constant(value_int=kv_num_heads), one)
    query_blocks = op.Shape(block_scores, start=2, end=3)
    key_blocks = op.Shape(block_scores, start=3, end=4)

    # Query [B, H, Q, b, D], key [B, G, K, b, D], value [B, G, K, b, E], mask [B, K, b].
    query_blocked = _edgesparse.ToBlocks(query, query_blocks, heads_1, block_size=block_size)
    # Next to the product, where onnxruntime fuses it: anywhere else the last bit differs.
    query_scaled = op.Mul(query_blocked, op.Constant(value_float=scale))
    key_blocked = _edgesparse.ToBlocks(key, key_blocks, groups_1, block_size=block_size)
    value_blocked = _edgesparse.ToBlocks(value, key_blocks, groups_1, block_size=block_size)
    real = op.Unsqueeze(op.Cast(key_mask, to=1), last)
    mask = op.Squeeze(
        _edgesparse.ToBlocks(real, key_blocks, one, block_size=block_size), op.Constant(value_ints=[1, 4])
    )
    counts = op.ReduceSum(mask, last, keepdims=0)

    # Which blocks: kept ones are a prefix of the visiting order, and as many as any row kept are gathered.
    reach, in_window = _edgesparse.BlockReach(counts, query_blocks, window=window, is_causal=is_causal)
    order, kept, selection = _edgesparse.SelectBlocks(block_scores, top_p, max_blocks, reach, in_window)
    picked, picked_kept = _edgesparse.CutOrder(order, kept)

    # Their tokens, and one summary token per dropped block: mean key, mean value, log(count) on its logit.
    group = op.Div(op.Range(0, heads, 1), op.Squeeze(op.Div(heads_1, groups_1)))
    key_picked = _edgesparse.GatherBlocks(key_blocked, picked, group)
    value_picked = _edgesparse.GatherBlocks(value_blocked, picked, group)
    token_bias = _edgesparse.TokenBias(mask, picked, picked_kept, block_size=block_size, is_causal=is_causal)
    with_summaries = op.Cast(op.Constant(value_int=summaries), to=9)
    # One name a branch: several are put in the order of a set, and the file would change from run to run.
    if with_summaries:
        key_seen = _edgesparse.AppendMeans(key_picked, key_blocked, mask, group)
    else:
        key_seen = op.Identity(key_picked)
    if with_summaries:
        value_seen = _edgesparse.AppendMeans(value_picked, value_blocked, mask, group)
    else:
        value_seen = op.Identity(value_picked)
    if with_summaries:
        bias = _edgesparse.AppendSummaryBias(token_bias, counts, reach, selection)
    else:
        bias = op.Identity(token_bias)
    merged = _edgesparse.AttendBlocks(query_scaled, key_seen, value_seen, bias)
    output = op.Slice(merged, zero, op.Shape(query, start=1, end=2), one)
    return output, selection


def function_body() -> ir.Function:
    """The operator's function, ready to be added to a model's `functions`."""
    parts = [part.to_function_proto() for part in PARTS]
    return ir.serde.deserialize_function(inline_calls(SparseAttention.to_function_proto(), parts))
