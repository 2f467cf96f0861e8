"""The operator as a model-local ONNX function: standard ops only, gathers only the selected blocks.

It is specification, fallback and test oracle in one (DESIGN section 3): a stock onnxruntime without our
library runs this, and so does `onnx.reference`. The steps are those of docs/operator.md and of
`edgesparse/attention/gather.py`; conditions on attributes become `If` nodes over constants, which
onnxruntime folds away when it loads the model.

The file cannot postpone its annotations: onnxscript reads them. Shape legend: `B` batch, `N`/`M` query and
key tokens, `H`/`G` query and key/value heads, `D`/`E` head size of keys/values, `Q`/`K` blocks, `S` most
blocks that any query block kept, `b` block size.
"""

# onnxscript compiles this function from its source: to a type checker its int64 scalars are not tensors.
# mypy: ignore-errors

import onnx_ir as ir
from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.domain import DOMAIN, VERSION


@script(Opset(DOMAIN, VERSION), default_opset=op)
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
    minus_infinity = op.Constant(value_float=float("-inf"))
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[-1])
    heads = op.Constant(value_int=num_heads)
    heads_1 = op.Reshape(heads, one)
    groups_1 = op.Reshape(op.Constant(value_int=kv_num_heads), one)
    size_1 = op.Reshape(op.Constant(value_int=block_size), one)
    batch = op.Shape(query, start=0, end=1)
    queries = op.Shape(query, start=1, end=2)
    keys = op.Shape(key, start=1, end=2)
    query_blocks = op.Shape(block_scores, start=2, end=3)
    key_blocks = op.Shape(block_scores, start=3, end=4)
    head_size = op.Div(op.Shape(query, start=2, end=3), heads_1)
    value_size = op.Div(op.Shape(value, start=2, end=3), groups_1)
    zero_2 = op.Constant(value_ints=[0, 0])
    zero_3 = op.Constant(value_ints=[0, 0, 0])
    query_rest = op.Sub(op.Mul(query_blocks, size_1), queries)
    key_rest = op.Sub(op.Mul(key_blocks, size_1), keys)
    key_pads = op.Concat(op.Constant(value_ints=[0, 0, 0, 0]), key_rest, zero, axis=0)

    # Blocks: query [B, H, Q, b, D], key [B, G, K, b, D], value [B, G, K, b, E], mask [B, K, b].
    query_padded = op.Pad(query, op.Concat(zero_2, zero_2, query_rest, zero, axis=0))
    query_blocked = op.Transpose(
        op.Reshape(query_padded, op.Concat(batch, query_blocks, size_1, heads_1, head_size, axis=0)),
        perm=[0, 3, 1, 2, 4],
    )
    query_scaled = op.Mul(query_blocked, op.Constant(value_float=scale))
    key_blocked = op.Transpose(
        op.Reshape(op.Pad(key, key_pads), op.Concat(batch, key_blocks, size_1, groups_1, head_size, axis=0)),
        perm=[0, 3, 1, 2, 4],
    )
    value_blocked = op.Transpose(
        op.Reshape(
            op.Pad(value, key_pads), op.Concat(batch, key_blocks, size_1, groups_1, value_size, axis=0)
        ),
        perm=[0, 3, 1, 2, 4],
    )
    mask = op.Reshape(
        op.Pad(op.Cast(key_mask, to=1), op.Concat(zero_3, key_rest, axis=0)),
        op.Concat(batch, key_blocks, size_1, axis=0),
    )
    counts = op.ReduceSum(mask, last, keepdims=0)
    valid = op.Unsqueeze(op.Greater(counts, op.Constant(value_float=0.0)), op.Constant(value_ints=[1, 2]))

    # Which blocks may be attended to [B, 1, Q, K], and which of them are the window.
    rows = op.Unsqueeze(op.Range(0, op.Squeeze(query_blocks), 1), one)
    columns = op.Unsqueeze(op.Range(0, op.Squeeze(key_blocks), 1), zero)
    causal = op.Cast(op.Constant(value_int=is_causal), to=9)
    if causal:
        reach = op.And(valid, op.LessOrEqual(columns, rows))
    else:
        reach = op.And(valid, op.GreaterOrEqual(columns, op.Mul(rows, zero)))
    near = op.LessOrEqual(op.Abs(op.Sub(rows, columns)), op.Constant(value_int=window))
    in_window = op.And(reach, near)

    # The router's shares [B, H, Q, K].
    finite = op.Min(
        op.Where(op.IsNaN(block_scores), minus_infinity, block_scores),
        op.Constant(value_float=3.4028234663852886e38),
    )
    scores = op.Where(reach, finite, minus_infinity)
    largest = op.ReduceMax(scores, last, keepdims=1)
    exponentials = op.Exp(op.Sub(scores, op.Where(op.IsInf(largest), op.Mul(counts[0, 0], 0.0), largest)))
    total = op.ReduceSum(exponentials, last, keepdims=1)
    share = op.Div(exponentials, op.Where(op.Greater(total, 0.0), total, op.Constant(value_float=1.0)))

    # Visiting order: window first, then by falling share, unreachable last; kept blocks are a prefix.
    priority = op.Where(
        reach, op.Add(share, op.Mul(op.Cast(in_window, to=1), 2.0)), op.Constant(value_float=-1.0)
    )
    ordered_priority, order = op.TopK(priority, key_blocks, axis=-1, largest=1, sorted=1)
    ordered_share = op.GatherElements(share, order, axis=-1)
    mass_before = op.CumSum(ordered_share, op.Constant(value_int=-1), exclusive=1)
    head_top_p = op.Unsqueeze(top_p, op.Constant(value_ints=[1, 2]))
    wanted = op.And(
        op.Or(op.Less(mass_before, head_top_p), op.GreaterOrEqual(head_top_p, 1.0)),
        op.Greater(head_top_p, 0.0),
    )
    capped = op.Less(columns, max_blocks)
    kept = op.Or(
        op.Greater(ordered_priority, 1.5),
        op.And(op.Greater(ordered_priority, -0.5), op.And(wanted, capped)),
    )
    selection = op.Cast(op.ScatterElements(op.Mul(share, 0.0), order, op.Cast(kept, to=1), axis=-1), to=9)
    count = op.ReduceSum(op.Cast(kept, to=7), last, keepdims=0)
    slots = op.Max(op.Reshape(op.ReduceMax(count, keepdims=0), one), one)
    picked = op.Slice(order, zero, slots, last)
    picked_kept = op.Slice(kept, zero, slots, last)

    # Gather the picked blocks: key [B, H, Q, S*b, D], value [B, H, Q, S*b, E], bias [B, H, Q, 1, S*b].
    batch_index = op.Unsqueeze(op.Range(0, op.Squeeze(batch), 1), op.Constant(value_ints=[1, 2, 3]))
    group = op.Div(op.Range(0, heads, 1), op.Squeeze(op.Div(heads_1, groups_1)))
    group_index = op.Unsqueeze(group, op.Constant(value_ints=[0, 2, 3]))
    head_row = op.Mul(op.Add(op.Mul(batch_index, groups_1), group_index), key_blocks)
    blocks_row = op.Add(picked, head_row)
    gathered = op.Concat(batch, heads_1, query_blocks, op.Mul(slots, size_1), axis=0)
    key_table = op.Reshape(key_blocked, op.Concat(last, op.Mul(size_1, head_size), axis=0))
    value_table = op.Reshape(value_blocked, op.Concat(last, op.Mul(size_1, value_size), axis=0))
    key_picked = op.Reshape(op.Gather(key_table, blocks_row, axis=0), op.Concat(gathered, head_size, axis=0))
    value_picked = op.Reshape(
        op.Gather(value_table, blocks_row, axis=0), op.Concat(gathered, value_size, axis=0)
    )
    mask_bias = op.Where(op.Greater(mask, 0.0), op.Mul(mask, 0.0), minus_infinity)
    mask_row = op.Add(picked, op.Mul(batch_index, key_blocks))
    mask_picked = op.Gather(op.Reshape(mask_bias, op.Concat(last, size_1, axis=0)), mask_row, axis=0)
    block_bias = op.Reshape(
        op.Where(op.Unsqueeze(picked_kept, last), mask_picked, minus_infinity),
        op.Concat(batch, heads_1, query_blocks, one, op.Mul(slots, size_1), axis=0),
    )
    if causal:
        inside = op.Range(0, op.Constant(value_int=block_size), 1)
        key_position = op.Reshape(
            op.Add(op.Mul(op.Unsqueeze(picked, last), size_1), inside),
            op.Concat(batch, heads_1, query_blocks, one, op.Mul(slots, size_1), axis=0),
        )
        query_position = op.Unsqueeze(op.Add(op.Mul(rows, size_1), inside), last)
        token_bias = op.Where(op.LessOrEqual(key_position, query_position), block_bias, minus_infinity)
    else:
        token_bias = op.Identity(block_bias)

    # One summary token a dropped block: mean key, mean value, log(count) on its logit.
    with_summaries = op.Cast(op.Constant(value_int=summaries), to=9)
    if with_summaries:
        divisor = op.Unsqueeze(op.Max(counts, op.Constant(value_float=1.0)), op.Constant(value_ints=[1, 3]))
        weight = op.Unsqueeze(mask, op.Constant(value_ints=[1, 4]))
        heads_key = op.Gather(
            op.Div(
                op.ReduceSum(op.Mul(key_blocked, weight), op.Constant(value_ints=[3]), keepdims=0), divisor
            ),
            group,
            axis=1,
        )
        heads_value = op.Gather(
            op.Div(
                op.ReduceSum(op.Mul(value_blocked, weight), op.Constant(value_ints=[3]), keepdims=0), divisor
            ),
            group,
            axis=1,
        )
        spread = op.Concat(batch, heads_1, query_blocks, one, one, axis=0)
        key_seen = op.Concat(
            key_picked, op.Expand(op.Unsqueeze(heads_key, op.Constant(value_ints=[2])), spread), axis=3
        )
        value_seen = op.Concat(
            value_picked, op.Expand(op.Unsqueeze(heads_value, op.Constant(value_ints=[2])), spread), axis=3
        )
        log_count = op.Unsqueeze(op.Log(counts), op.Constant(value_ints=[1, 2]))
        summary_bias = op.Unsqueeze(
            op.Where(op.And(reach, op.Not(selection)), log_count, minus_infinity), op.Constant(value_ints=[3])
        )
        widen = op.Concat(
            op.Constant(value_ints=[1, 1, 1]), op.Shape(token_bias, start=3, end=4), one, axis=0
        )
        bias = op.Concat(token_bias, op.Expand(summary_bias, widen), axis=4)
    else:
        key_seen = op.Identity(key_picked)
        value_seen = op.Identity(value_picked)
        bias = op.Identity(token_bias)

    # A softmax over nothing is NaN: such rows look at anything and are set to zero afterwards.
    best = op.ReduceMax(bias, last, keepdims=1)
    nothing = op.IsInf(best)
    logits = op.Add(
        op.MatMul(query_scaled, op.Transpose(key_seen, perm=[0, 1, 2, 4, 3])),
        op.Where(nothing, op.Constant(value_float=0.0), bias),
    )
    mixed = op.MatMul(op.Softmax(logits, axis=-1), value_seen)
    visible = op.Where(nothing, op.Constant(value_float=0.0), mixed)
    merged = op.Reshape(
        op.Transpose(visible, perm=[0, 2, 3, 1, 4]),
        op.Concat(batch, op.Mul(query_blocks, size_1), op.Mul(heads_1, value_size), axis=0),
    )
    output = op.Slice(merged, zero, queries, one)
    return output, selection


def function_body() -> ir.Function:
    """The operator's function, ready to be added to a model's `functions`."""
    return ir.serde.deserialize_function(SparseAttention.to_function_proto())
