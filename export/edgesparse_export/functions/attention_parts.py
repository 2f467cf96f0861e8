"""The steps of the operator's function body in standard operators: blocks, selection, gathering, summaries.

`functions/sparse_attention.py` calls them one after the other and inlines them, so that a model carries one
function. The steps are those of docs/reference/operator.md and of `edgesparse/attention/gather.py`;
conditions on attributes become `If` nodes over constants, which onnxruntime folds away when it loads the
model.

The file cannot postpone its annotations: onnxscript reads them. Shape legend: `B` batch, `N`/`M` query and
key tokens, `H`/`G` query and key/value heads, `D`/`E` head size of keys/values, `Q`/`K` blocks, `S` most
blocks that any query block kept, `b` block size.
"""

# onnxscript compiles these functions from their source: to a type checker int64 scalars are not tensors.
# mypy: ignore-errors

from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.domain import DOMAIN, VERSION

_edgesparse = Opset(DOMAIN, VERSION)


@script(_edgesparse, default_opset=op)
def ToBlocks(x: FLOAT["B", "M", "GD"], blocks: INT64[1], heads: INT64[1], block_size: int):
    """[B, M, G*D] -> [B, G, K, b, D], the last block filled up with zeros."""
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    size = op.Reshape(op.Constant(value_int=block_size), one)
    rest = op.Sub(op.Mul(blocks, size), op.Shape(x, start=1, end=2))
    padded = op.Pad(x, op.Concat(op.Constant(value_ints=[0, 0, 0, 0]), rest, zero, axis=0))
    head_size = op.Div(op.Shape(x, start=2, end=3), heads)
    shape = op.Concat(op.Shape(x, start=0, end=1), blocks, size, heads, head_size, axis=0)
    return op.Transpose(op.Reshape(padded, shape), perm=[0, 3, 1, 2, 4])


@script(_edgesparse, default_opset=op)
def BlockReach(counts: FLOAT["B", "K"], query_blocks: INT64[1], window: int, is_causal: int):
    """Blocks that may be attended to, bool [B, 1, Q, K], and which of them are the window."""
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    valid = op.Unsqueeze(op.Greater(counts, op.Constant(value_float=0.0)), op.Constant(value_ints=[1, 2]))
    rows = op.Unsqueeze(op.Range(0, op.Squeeze(query_blocks), 1), one)
    columns = op.Unsqueeze(op.Range(0, op.Squeeze(op.Shape(counts, start=1, end=2)), 1), zero)
    causal = op.Cast(op.Constant(value_int=is_causal), to=9)
    if causal:
        reach = op.And(valid, op.LessOrEqual(columns, rows))
    else:
        reach = op.And(valid, op.GreaterOrEqual(columns, op.Mul(rows, zero)))
    near = op.LessOrEqual(op.Abs(op.Sub(rows, columns)), op.Constant(value_int=window))
    in_window = op.And(reach, near)
    return reach, in_window


@script(_edgesparse, default_opset=op)
def SelectBlocks(
    block_scores: FLOAT["B", "H", "Q", "K"],
    top_p: FLOAT["P"],
    max_blocks: INT64[1],
    reach: BOOL["B", 1, "Q", "K"],
    in_window: BOOL["B", 1, "Q", "K"],
):
    """Blocks in visiting order [B, H, Q, K], whether each is kept (a prefix), and the selection."""
    minus_infinity = op.Constant(value_float=float("-inf"))
    zero = op.Constant(value_ints=[0])
    last = op.Constant(value_ints=[-1])
    key_blocks = op.Shape(block_scores, start=3, end=4)
    columns = op.Unsqueeze(op.Range(0, op.Squeeze(key_blocks), 1), zero)
    # The router's shares.
    finite = op.Min(
        op.Where(op.IsNaN(block_scores), minus_infinity, block_scores),
        op.Constant(value_float=3.4028234663852886e38),
    )
    scores = op.Where(reach, finite, minus_infinity)
    largest = op.ReduceMax(scores, last, keepdims=1)
    exponentials = op.Exp(op.Sub(scores, op.Where(op.IsInf(largest), op.Constant(value_float=0.0), largest)))
    total = op.ReduceSum(exponentials, last, keepdims=1)
    share = op.Div(exponentials, op.Where(op.Greater(total, 0.0), total, op.Constant(value_float=1.0)))
    # Window first, then by falling share, unreachable last.
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
    return order, kept, selection


@script(_edgesparse, default_opset=op)
def CutOrder(order: INT64["B", "H", "Q", "K"], kept: BOOL["B", "H", "Q", "K"]):
    """Both as far as the longest prefix of kept blocks, at least one block: [B, H, Q, S]."""
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[-1])
    count = op.ReduceSum(op.Cast(kept, to=7), last, keepdims=0)
    slots = op.Max(op.Reshape(op.ReduceMax(count, keepdims=0), one), one)
    picked = op.Slice(order, zero, slots, last)
    picked_kept = op.Slice(kept, zero, slots, last)
    return picked, picked_kept


@script(_edgesparse, default_opset=op)
def GatherBlocks(
    blocked: FLOAT["B", "G", "K", "b", "D"], picked: INT64["B", "H", "Q", "S"], group: INT64["H"]
):
    """The picked blocks of each query block's key/value head, [B, H, Q, S*b, D]."""
    last = op.Constant(value_ints=[-1])
    groups = op.Shape(blocked, start=1, end=2)
    key_blocks = op.Shape(blocked, start=2, end=3)
    size = op.Shape(blocked, start=3, end=4)
    head_size = op.Shape(blocked, start=4, end=5)
    batch = op.Squeeze(op.Shape(blocked, start=0, end=1))
    batch_index = op.Unsqueeze(op.Range(0, batch, 1), op.Constant(value_ints=[1, 2, 3]))
    group_index = op.Unsqueeze(group, op.Constant(value_ints=[0, 2, 3]))
    row = op.Add(picked, op.Mul(op.Add(op.Mul(batch_index, groups), group_index), key_blocks))
    table = op.Reshape(blocked, op.Concat(last, op.Mul(size, head_size), axis=0))
    slots = op.Shape(picked, start=3, end=4)
    shape = op.Concat(op.Shape(picked, start=0, end=3), op.Mul(slots, size), head_size, axis=0)
    return op.Reshape(op.Gather(table, row, axis=0), shape)


@script(_edgesparse, default_opset=op)
def TokenBias(
    mask: FLOAT["B", "K", "b"], picked: INT64["B", "H", "Q", "S"], picked_kept: BOOL["B", "H", "Q", "S"],
    block_size: int, is_causal: int,
):  # fmt: skip
    """0 for tokens of picked blocks that a query may see, else minus infinity: [B, H, Q, 1 or b, S*b]."""
    minus_infinity = op.Constant(value_float=float("-inf"))
    one = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[-1])
    size = op.Reshape(op.Constant(value_int=block_size), one)
    batch = op.Squeeze(op.Shape(mask, start=0, end=1))
    batch_index = op.Unsqueeze(op.Range(0, batch, 1), op.Constant(value_ints=[1, 2, 3]))
    mask_bias = op.Where(op.Greater(mask, 0.0), op.Mul(mask, 0.0), minus_infinity)
    mask_row = op.Add(picked, op.Mul(batch_index, op.Shape(mask, start=1, end=2)))
    mask_picked = op.Gather(op.Reshape(mask_bias, op.Concat(last, size, axis=0)), mask_row, axis=0)
    slots = op.Shape(picked, start=3, end=4)
    shape = op.Concat(op.Shape(picked, start=0, end=3), one, op.Mul(slots, size), axis=0)
    block_bias = op.Reshape(op.Where(op.Unsqueeze(picked_kept, last), mask_picked, minus_infinity), shape)
    causal = op.Cast(op.Constant(value_int=is_causal), to=9)
    if causal:
        inside = op.Range(0, op.Constant(value_int=block_size), 1)
        key_position = op.Reshape(op.Add(op.Mul(op.Unsqueeze(picked, last), size), inside), shape)
        rows = op.Unsqueeze(op.Range(0, op.Squeeze(op.Shape(picked, start=2, end=3)), 1), one)
        query_position = op.Unsqueeze(op.Add(op.Mul(rows, size), inside), last)
        token_bias = op.Where(op.LessOrEqual(key_position, query_position), block_bias, minus_infinity)
    else:
        token_bias = op.Identity(block_bias)
    return token_bias


@script(_edgesparse, default_opset=op)
def AppendMeans(
    picked: FLOAT["B", "H", "Q", "Sb", "D"], blocked: FLOAT["B", "G", "K", "b", "D"],
    mask: FLOAT["B", "K", "b"], group: INT64["H"],
):  # fmt: skip
    """Behind the picked tokens, the mean over each block's real ones: [B, H, Q, S*b + K, D]."""
    one = op.Constant(value_ints=[1])
    counts = op.ReduceSum(mask, op.Constant(value_ints=[-1]), keepdims=0)
    divisor = op.Unsqueeze(op.Max(counts, op.Constant(value_float=1.0)), op.Constant(value_ints=[1, 3]))
    weight = op.Unsqueeze(mask, op.Constant(value_ints=[1, 4]))
    total = op.ReduceSum(op.Mul(blocked, weight), op.Constant(value_ints=[3]), keepdims=0)
    means = op.Gather(op.Div(total, divisor), group, axis=1)
    spread = op.Concat(op.Shape(picked, start=0, end=3), one, one, axis=0)
    return op.Concat(picked, op.Expand(op.Unsqueeze(means, op.Constant(value_ints=[2])), spread), axis=3)


@script(_edgesparse, default_opset=op)
def AppendSummaryBias(
    token_bias: FLOAT["B", "H", "Q", "b", "Sb"], counts: FLOAT["B", "K"],
    reach: BOOL["B", 1, "Q", "K"], selection: BOOL["B", "H", "Q", "K"],
):  # fmt: skip
    """Behind the tokens' bias, log(count) for dropped blocks and minus infinity for the others."""
    one = op.Constant(value_ints=[1])
    log_count = op.Unsqueeze(op.Log(counts), op.Constant(value_ints=[1, 2]))
    is_dropped = op.And(reach, op.Not(selection))
    bias = op.Where(is_dropped, log_count, op.Constant(value_float=float("-inf")))
    widen = op.Concat(op.Constant(value_ints=[1, 1, 1]), op.Shape(token_bias, start=3, end=4), one, axis=0)
    summary_bias = op.Expand(op.Unsqueeze(bias, op.Constant(value_ints=[3])), widen)
    return op.Concat(token_bias, summary_bias, axis=4)


@script(_edgesparse, default_opset=op)
def AttendBlocks(
    query: FLOAT["B", "H", "Q", "b", "D"], key: FLOAT["B", "H", "Q", "L", "D"],
    value: FLOAT["B", "H", "Q", "L", "E"], bias: FLOAT["B", "H", "Q", "b", "L"],
):  # fmt: skip
    """Softmax attention of each block's queries, packed again: [B, Q*b, H*E]."""
    last = op.Constant(value_ints=[-1])
    # A softmax over nothing is NaN: such rows look at anything and are set to zero afterwards.
    best = op.ReduceMax(bias, last, keepdims=1)
    nothing = op.IsInf(best)
    logits = op.Add(
        op.MatMul(query, op.Transpose(key, perm=[0, 1, 2, 4, 3])),
        op.Where(nothing, op.Constant(value_float=0.0), bias),
    )
    mixed = op.MatMul(op.Softmax(logits, axis=-1), value)
    visible = op.Where(nothing, op.Constant(value_float=0.0), mixed)
    tokens = op.Mul(op.Shape(query, start=2, end=3), op.Shape(query, start=3, end=4))
    width = op.Mul(op.Shape(query, start=1, end=2), op.Shape(value, start=4, end=5))
    shape = op.Concat(op.Shape(query, start=0, end=1), tokens, width, axis=0)
    return op.Reshape(op.Transpose(visible, perm=[0, 2, 3, 1, 4]), shape)


PARTS = (
    ToBlocks,
    BlockReach,
    SelectBlocks,
    CutOrder,
    GatherBlocks,
    TokenBias,
    AppendMeans,
    AppendSummaryBias,
    AttendBlocks,
)
