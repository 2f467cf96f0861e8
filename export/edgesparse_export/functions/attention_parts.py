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
def BlockReach(
    counts: FLOAT["B", "K"], query_blocks: INT64["Q"], key_blocks: INT64["K"], window: int, is_causal: int
):
    """Blocks that may be attended to, bool [B, 1, Q or 1, K], and which of them are the window."""
    valid = op.Unsqueeze(op.Greater(counts, op.Constant(value_float=0.0)), op.Constant(value_ints=[1, 2]))
    rows = op.Unsqueeze(query_blocks, op.Constant(value_ints=[1]))
    causal = op.Cast(op.Constant(value_int=is_causal), to=9)
    if causal:
        reach = op.And(valid, op.LessOrEqual(key_blocks, rows))
    else:
        reach = op.Identity(valid)
    near = op.LessOrEqual(op.Abs(op.Sub(rows, key_blocks)), op.Constant(value_int=window))
    in_window = op.And(reach, near)
    return reach, in_window


@script(_edgesparse, default_opset=op)
def SelectBlocks(
    block_scores: FLOAT["B", "H", "Q", "K"],
    top_p: FLOAT["P"],
    max_blocks: INT64[1],
    reach: BOOL["B", 1, "Q", "K"],
    in_window: BOOL["B", 1, "Q", "K"],
    key_blocks: INT64[1],
    ranks: INT64["K"],
):
    """Blocks in visiting order [B, H, Q, K], whether each is kept (a prefix), and the selection."""
    minus_infinity = op.Constant(value_float=float("-inf"))
    nothing = op.Constant(value_float=0.0)
    last = op.Constant(value_ints=[-1])
    # What depends on the mask alone.
    is_reached = op.Less(ranks, op.ReduceSum(op.Cast(reach, to=7), last, keepdims=1))
    is_allowed = op.And(is_reached, op.Less(ranks, max_blocks))
    is_window = op.Less(ranks, op.ReduceSum(op.Cast(in_window, to=7), last, keepdims=1))
    step = op.Where(reach, op.Mul(op.Cast(in_window, to=1), 2.0), op.Constant(value_float=-1.0))
    # The router's shares. A comparison with NaN is false; a row without a score softmaxes to NaN.
    is_scored = op.And(reach, op.Greater(block_scores, minus_infinity))
    finite = op.Min(block_scores, op.Constant(value_float=3.4028234663852886e38))
    share = op.Where(is_scored, op.Softmax(op.Where(is_scored, finite, minus_infinity), axis=-1), nothing)
    # Window first, then by falling share, unreachable last.
    _, order = op.TopK(op.Add(share, step), key_blocks, axis=-1, largest=1, sorted=1)
    mass_before = op.CumSum(op.GatherElements(share, order, axis=-1), op.Constant(value_int=-1), exclusive=1)
    # A mass lies between 0 and nearly 1: below no `top_p` of 0 or less, and always below 2 and more.
    limit = op.Unsqueeze(op.Add(top_p, op.Floor(top_p)), op.Constant(value_ints=[1, 2]))
    kept = op.Or(is_window, op.And(is_allowed, op.Less(mass_before, limit)))
    # Every place is written: the data only lends its shape.
    selection = op.ScatterElements(is_scored, order, kept, axis=-1)
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
    real: BOOL["B", "K", "b"], picked: INT64["B", "H", "Q", "S"], picked_kept: BOOL["B", "H", "Q", "S"],
    block_size: int, is_causal: int,
):  # fmt: skip
    """0 for tokens of picked blocks that a query may see, else minus infinity: [B, H, Q, 1 or b, S*b]."""
    minus_infinity = op.Constant(value_float=float("-inf"))
    one = op.Constant(value_ints=[1])
    last = op.Constant(value_ints=[-1])
    size = op.Reshape(op.Constant(value_int=block_size), one)
    batch = op.Squeeze(op.Shape(real, start=0, end=1))
    batch_index = op.Unsqueeze(op.Range(0, batch, 1), op.Constant(value_ints=[1, 2, 3]))
    mask_bias = op.Where(real, op.Constant(value_float=0.0), minus_infinity)
    mask_row = op.Add(picked, op.Mul(batch_index, op.Shape(real, start=1, end=2)))
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
    picked: FLOAT["B", "H", "Q", "Sb", "D"], means: FLOAT["B", "K", 1, "GD"], groups: INT64[1],
    num_heads: int, kv_num_heads: int,
):  # fmt: skip
    """Behind the picked tokens, the mean over each block's real ones: [B, H, Q, S*b + K, D]."""
    one = op.Constant(value_ints=[1])
    shape = op.Concat(op.Constant(value_ints=[0, 0]), groups, op.Constant(value_ints=[-1]), axis=0)
    turned = op.Transpose(op.Reshape(means, shape), perm=[0, 2, 1, 3])
    repeated = _edgesparse.RepeatHeads(turned, num_heads=num_heads, kv_num_heads=kv_num_heads)
    spread = op.Concat(op.Shape(picked, start=0, end=3), one, one, axis=0)
    return op.Concat(picked, op.Expand(op.Unsqueeze(repeated, op.Constant(value_ints=[2])), spread), axis=3)


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


@script(_edgesparse, default_opset=op)
def BlockHeads(tokens: FLOAT["B", "K", "b", "GD"], groups: INT64[1]):
    """[B, K, b, G*D] -> [B, G, K, b, D]."""
    shape = op.Concat(op.Constant(value_ints=[0, 0, 0]), groups, op.Constant(value_ints=[-1]), axis=0)
    return op.Transpose(op.Reshape(tokens, shape), perm=[0, 3, 1, 2, 4])


@script(_edgesparse, default_opset=op)
def AttendGathered(
    query: FLOAT["B", "N", "HD"], key_tokens: FLOAT["B", "K", "b", "GD"], value: FLOAT["B", "M", "GE"],
    query_places: INT64["Q", "b"], places: INT64["B", "K", "b", 1], real: BOOL["B", "K", "b"],
    counts: FLOAT["B", "K"], key_means: FLOAT["B", "K", 1, "GD"], reach: BOOL["B", 1, "Q", "K"],
    order: INT64["B", "H", "Q", "K"], kept: BOOL["B", "H", "Q", "K"], selection: BOOL["B", "H", "Q", "K"],
    num_heads: int, kv_num_heads: int, block_size: int, scale: float, summaries: int, is_causal: int,
):  # fmt: skip
    """The output [B, N, H*E] from copies of the kept blocks: memory grows with the tokens."""
    one = op.Constant(value_ints=[1])
    heads = op.Constant(value_int=num_heads)
    heads_1 = op.Reshape(heads, one)
    groups_1 = op.Reshape(op.Constant(value_int=kv_num_heads), one)
    query_blocked = _edgesparse.BlockHeads(op.Gather(query, query_places, axis=1), heads_1)
    # Next to the product, where onnxruntime fuses it: anywhere else the last bit differs.
    query_scaled = op.Mul(query_blocked, op.Constant(value_float=scale))
    value_tokens = op.GatherND(value, places, batch_dims=1)
    # Kept blocks are a prefix of the visiting order, and as many as any row kept are gathered.
    picked, picked_kept = _edgesparse.CutOrder(order, kept)
    group = op.Div(op.Range(0, heads, 1), op.Squeeze(op.Div(heads_1, groups_1)))
    key_picked = _edgesparse.GatherBlocks(_edgesparse.BlockHeads(key_tokens, groups_1), picked, group)
    value_picked = _edgesparse.GatherBlocks(_edgesparse.BlockHeads(value_tokens, groups_1), picked, group)
    token_bias = _edgesparse.TokenBias(real, picked, picked_kept, block_size=block_size, is_causal=is_causal)
    with_summaries = op.Cast(op.Constant(value_int=summaries), to=9)
    # One name a branch: several are put in the order of a set, and the file would change from run to run.
    if with_summaries:
        key_seen = _edgesparse.AppendMeans(
            key_picked, key_means, groups_1, num_heads=num_heads, kv_num_heads=kv_num_heads
        )
    else:
        key_seen = op.Identity(key_picked)
    if with_summaries:
        value_means = _edgesparse.BlockMeans(value_tokens, real, counts)
        value_seen = _edgesparse.AppendMeans(
            value_picked, value_means, groups_1, num_heads=num_heads, kv_num_heads=kv_num_heads
        )
    else:
        value_seen = op.Identity(value_picked)
    if with_summaries:
        bias = _edgesparse.AppendSummaryBias(token_bias, counts, reach, selection)
    else:
        bias = op.Identity(token_bias)
    merged = _edgesparse.AttendBlocks(query_scaled, key_seen, value_seen, bias)
    return op.Slice(merged, op.Constant(value_ints=[0]), op.Shape(query, start=1, end=2), one)


PARTS = (
    BlockHeads,
    BlockReach,
    SelectBlocks,
    CutOrder,
    GatherBlocks,
    TokenBias,
    AppendMeans,
    AppendSummaryBias,
    AttendBlocks,
    AttendGathered,
)
