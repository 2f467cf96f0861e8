"""`edgesparse::WindowAttention` as a model-local ONNX function: standard ops, neighboring keys gathered.

The keys that a block of queries sees follow one another, so each block gathers as many as the block that
spans most: memory is linear in the number of tokens for bounded windows, and grows with the longest text for
unbounded ones. A `Loop` over blocks would need less, but no bundle may hold one.

What depends on mask and starts alone is written alike in every node, so that onnxruntime computes it once per
model and not once per layer.

The file cannot postpone its annotations: onnxscript reads them. Shape legend: `B` batch, `N` tokens,
`H`/`G` query and key/value heads, `D`/`E` head size of keys/values, `S` starts, `Q` blocks of `b` queries,
`W` keys of a block.
"""

# onnxscript compiles these functions from their source: to a type checker int64 scalars are not tensors.
# mypy: ignore-errors

import onnx_ir as ir
from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.functions.inline import inline_calls
from edgesparse_export.functions.token_blocks import BlockNumbers, BlockPlaces

NAME = "WindowAttention"
_edgesparse = Opset(DOMAIN, VERSION)


@script(_edgesparse, default_opset=op)
def TokenSpans(key_mask: BOOL["B", "N"], starts: INT64["S"], left_window: int, right_window: int):
    """The first and the last token that each token sees, int64 [N] each."""
    one = op.Constant(value_ints=[1])
    tokens = op.Shape(key_mask, start=1, end=2)
    numbers = op.Range(0, op.Squeeze(tokens), 1)
    token = op.Unsqueeze(numbers, one)
    # One text that begins at the first token, and one behind the last.
    begins = op.Concat(op.Constant(value_ints=[0]), starts, tokens, axis=0)
    is_behind = op.Greater(begins, token)
    text_first = op.ReduceMax(op.Where(is_behind, op.Constant(value_int=0), begins), one, keepdims=0)
    text_end = op.ReduceMin(op.Where(is_behind, begins, tokens), one, keepdims=0)
    left = op.Constant(value_int=left_window)
    right = op.Constant(value_int=right_window)
    all_left = op.Where(op.Less(left, 0), tokens, left)
    all_right = op.Where(op.Less(right, 0), tokens, right)
    first = op.Max(text_first, op.Sub(numbers, all_left))
    last = op.Min(op.Sub(text_end, one), op.Add(numbers, all_right))
    return first, last


@script(_edgesparse, default_opset=op)
def SpanPlaces(key_mask: BOOL["B", "N"], first: INT64["N"], last: INT64["N"], block_size: int):
    """Queries by block [Q, b], their keys [Q, W], and whether they are seen, bool [B, Q, 1, 1, b, W]."""
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    two = op.Constant(value_ints=[2])
    tokens = op.Shape(key_mask, start=1, end=2)
    end = op.Sub(tokens, one)
    query_places, _ = _edgesparse.BlockPlaces(tokens, block_size=block_size)
    row_first = op.Gather(first, query_places)
    row_last = op.Gather(last, query_places)
    block_first = op.ReduceMin(row_first, one, keepdims=1)
    block_last = op.ReduceMax(row_last, one, keepdims=1)
    width = op.Add(
        op.ReduceMax(op.Sub(block_last, block_first), op.Constant(value_ints=[0, 1]), keepdims=0), 1
    )
    places = op.Add(block_first, op.Range(0, width, 1))
    wide = op.Unsqueeze(places, one)
    inside = op.And(
        op.GreaterOrEqual(wide, op.Unsqueeze(row_first, two)),
        op.LessOrEqual(wide, op.Unsqueeze(row_last, two)),
    )
    key_places = op.Min(places, end)
    real = op.Unsqueeze(op.Gather(key_mask, key_places, axis=1), two)
    seen = op.Unsqueeze(op.And(real, op.Unsqueeze(inside, zero)), op.Constant(value_ints=[2, 3]))
    return query_places, key_places, seen


@script(_edgesparse, default_opset=op)
def WindowAttention(
    query: FLOAT["B", "N", "HD"],
    key: FLOAT["B", "N", "GD"],
    value: FLOAT["B", "N", "GE"],
    key_mask: BOOL["B", "N"],
    starts: INT64["S"],
    num_heads: int,
    kv_num_heads: int,
    scale: float,
    left_window: int,
    right_window: int,
):
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    last_axis = op.Constant(value_ints=[-1])
    heads = op.Reshape(op.Constant(value_int=num_heads), one)
    groups = op.Reshape(op.Constant(value_int=kv_num_heads), one)
    per_group = op.Div(heads, groups)
    first, last = _edgesparse.TokenSpans(key_mask, starts, left_window=left_window, right_window=right_window)
    # Fewer than 64 queries gather more keys than they read; more of them compute pairs that none sees.
    query_places, key_places, seen = _edgesparse.SpanPlaces(key_mask, first, last, block_size=64)
    sees_some = op.ReduceMax(op.Cast(seen, to=1), last_axis, keepdims=1)
    # [B, Q, b, H*D] -> [B, Q, G, R*b, D]
    query_tokens = op.Gather(op.Mul(query, op.Constant(value_float=scale)), query_places, axis=1)
    by_head = op.Transpose(
        op.Reshape(query_tokens, op.Concat(zero, zero, zero, groups, per_group, last_axis, axis=0)),
        perm=[0, 1, 3, 4, 2, 5],
    )
    block = op.Shape(query_places, start=1, end=2)
    row_shape = op.Concat(zero, zero, zero, op.Mul(per_group, block), last_axis, axis=0)
    rows = op.Reshape(by_head, row_shape)
    # [B, Q, W, G*D] -> [B, Q, G, D, W]
    split = op.Concat(zero, zero, zero, groups, last_axis, axis=0)
    keys = op.Transpose(op.Reshape(op.Gather(key, key_places, axis=1), split), perm=[0, 1, 3, 4, 2])
    real_value = op.Where(op.Unsqueeze(key_mask, op.Constant(value_ints=[2])), value, 0.0)
    values = op.Transpose(op.Reshape(op.Gather(real_value, key_places, axis=1), split), perm=[0, 1, 3, 2, 4])
    block_shape = op.Concat(zero, zero, zero, per_group, block, last_axis, axis=0)
    logits = op.Reshape(op.MatMul(rows, keys), block_shape)
    weights = op.Softmax(op.Where(seen, logits, op.Constant(value_float=-3.4028234663852886e38)), axis=-1)
    shares = op.Reshape(op.Mul(weights, sees_some), row_shape)
    # [B, Q, G, R*b, E] -> [B, Q, b, G, R, E] -> [B, N, H*E]
    mixed = op.Transpose(op.Reshape(op.MatMul(shares, values), block_shape), perm=[0, 1, 4, 2, 3, 5])
    width = op.Mul(op.Shape(value, start=2, end=3), per_group)
    every = op.Reshape(mixed, op.Concat(op.Shape(query, start=0, end=1), last_axis, width, axis=0))
    return op.Slice(every, zero, op.Shape(query, start=1, end=2), one)


def window_body() -> ir.Function:
    """The operator's function, ready to be added to a model's `functions`."""
    parts = [x.to_function_proto() for x in (BlockNumbers, BlockPlaces, TokenSpans, SpanPlaces)]
    return ir.serde.deserialize_function(inline_calls(WindowAttention.to_function_proto(), parts))
