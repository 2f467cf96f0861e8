"""The operators around attention as model-local ONNX functions: specification, fallback and test oracle.

`Linear` and `LinearSplit` (int8 weights, computed in float32 here), `BlockScores` (the router) and
`ValueConvolution`; docs/reference/operator.md says what each must do. The stem's is in `filter_bank.py`.

The file cannot postpone its annotations: onnxscript reads them. Shape legend: `B` batch, `N` tokens, `H`/`G`
query and key/value heads, `D` head size, `R` width of a router projection, `K` blocks, `P`/`Q` panels of 16
columns and groups of 4 rows of a packed weight.
"""

# onnxscript compiles these functions from their source: to a type checker int64 scalars are not tensors.
# mypy: ignore-errors

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript import BOOL, FLOAT, INT8, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.domain import DOMAIN, VERSION
from edgesparse_export.functions.inline import inline_calls
from edgesparse_export.functions.sparse_attention import function_body
from edgesparse_export.functions.token_blocks import SHARED

_edgesparse = Opset(DOMAIN, VERSION)


@script(_edgesparse, default_opset=op)
def Linear(
    x: FLOAT[...],
    weight: INT8["P", "Q", 16, 4],
    scale: FLOAT["C"],
    bias: FLOAT["C"],
    gain: FLOAT["I"],
    shift: FLOAT["I"],
    residual: FLOAT[...],
    normalize: int,
    epsilon: float,
    gelu: int,
):
    last = op.Constant(value_ints=[-1])
    normalized = op.Cast(op.Constant(value_int=normalize), to=9)
    if normalized:
        rows = op.LayerNormalization(x, gain, shift, axis=-1, epsilon=epsilon)
    else:
        rows = op.Identity(x)
    # [P, Q, 16, 4] -> [Q * 4, P * 16]
    columns = op.Reshape(op.Size(scale), last)
    turned = op.Transpose(op.Cast(weight, to=1), perm=[1, 3, 0, 2])
    matrix = op.Mul(op.Reshape(turned, op.Concat(last, columns, axis=0)), scale)
    product = op.Add(op.MatMul(rows, matrix), bias)
    with_gelu = op.Cast(op.Constant(value_int=gelu), to=9)
    if with_gelu:
        grown = op.Add(op.Erf(op.Mul(product, 0.7071067811865476)), 1.0)
        activated = op.Mul(op.Mul(product, grown), 0.5)
    else:
        activated = op.Identity(product)
    return op.Add(activated, residual)


@script(_edgesparse, default_opset=op)
def LinearSplit(
    x: FLOAT[...],
    weight: INT8["P", "Q", 16, 4],
    scale: FLOAT["C"],
    bias: FLOAT["C"],
    gain: FLOAT["I"],
    shift: FLOAT["I"],
    residual: FLOAT[1],
    normalize: int,
    epsilon: float,
    gelu: int,
):
    whole = _edgesparse.Linear(
        x, weight, scale, bias, gain, shift, residual, normalize=normalize, epsilon=epsilon, gelu=gelu
    )
    first, second, third = op.Split(whole, num_outputs=3, axis=-1)
    return first, second, third


@script(_edgesparse, default_opset=op)
def FeedForward(
    x: FLOAT["B", "N", "C"],
    up: INT8["P", "Q", 16, 4],
    up_scale: FLOAT["I"],
    up_bias: FLOAT["I"],
    gain: FLOAT["C"],
    shift: FLOAT["C"],
    down: INT8["P", "Q", 16, 4],
    down_scale: FLOAT["O"],
    down_bias: FLOAT["O"],
    residual: FLOAT["B", "N", "O"],
    epsilon: float,
):
    none = op.Constant(value_floats=[0.0])
    between = _edgesparse.Linear(
        x, up, up_scale, up_bias, gain, shift, none, normalize=1, epsilon=epsilon, gelu=1
    )
    # A layer that does not normalize reads neither gain nor shift.
    return _edgesparse.Linear(
        between, down, down_scale, down_bias, gain, shift, residual, normalize=0, epsilon=epsilon, gelu=0
    )


@script(_edgesparse, default_opset=op)
def FilterBankLinear(
    window: FLOAT["B", "C", "T"],
    real: BOOL["B", "T"],
    weight: FLOAT["L", "K", "C", 9],
    slope: FLOAT["L", "K"],
    offset: FLOAT["L", "K", "Q"],
    center: FLOAT["F"],
    spread: FLOAT["F"],
    matrix: INT8["P", "Q", 16, 4],
    scale: FLOAT["W"],
    bias: FLOAT["W"],
    dilations: Sequence[int],
    patch: int,
    before: int,
):
    features = _edgesparse.FilterBank(
        window,
        real,
        weight,
        slope,
        offset,
        center,
        spread,
        dilations=dilations,
        patch=patch,
        before=before,
    )
    none = op.Constant(value_floats=[0.0])
    # A layer that does not normalize reads neither gain nor shift.
    return _edgesparse.Linear(
        features, matrix, scale, bias, center, center, none, normalize=0, epsilon=0.0, gelu=0
    )


@script(_edgesparse, default_opset=op)
def BlockScores(
    query: FLOAT["B", "N", "HD"],
    key: FLOAT["B", "N", "GD"],
    query_weight: FLOAT["H", "D", "R"],
    key_weight: FLOAT["G", "3D", "R"],
    key_mask: BOOL["B", "N"],
    num_heads: int,
    kv_num_heads: int,
    block_size: int,
    is_causal: int,
):
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    two = op.Constant(value_ints=[2])
    last = op.Constant(value_ints=[-1])
    heads = op.Reshape(op.Constant(value_int=num_heads), one)
    groups = op.Reshape(op.Constant(value_int=kv_num_heads), one)
    places, real, counts = _edgesparse.RealPlaces(key_mask, block_size=block_size)
    # [B, K, b, width], then [B, K, 1, width].
    keys = op.GatherND(key, places, batch_dims=1)
    queries = op.GatherND(query, places, batch_dims=1)
    query_mean = _edgesparse.BlockMeans(queries, real, counts)
    key_mean = _edgesparse.BlockMeans(keys, real, counts)
    most = op.ReduceMax(keys, two, keepdims=1)
    least = op.ReduceMin(keys, two, keepdims=1)
    # Of a block without real tokens, zeros. [B, K, 3, G * D] -> [B, G, K, 3 * D]
    holds_some = op.Unsqueeze(op.Cast(op.Greater(counts, 0.0), to=1), op.Constant(value_ints=[2, 3]))
    pooled = op.Reshape(
        op.Mul(op.Concat(key_mean, most, least, axis=2), holds_some),
        op.Concat(zero, zero, op.Constant(value_ints=[3]), groups, last, axis=0),
    )
    key_pooled = op.Reshape(op.Transpose(pooled, perm=[0, 3, 1, 2, 4]), op.Constant(value_ints=[0, 0, 0, -1]))
    key_projected = _edgesparse.RepeatHeads(
        op.MatMul(key_pooled, key_weight), num_heads=num_heads, kv_num_heads=kv_num_heads
    )
    query_heads = op.Reshape(query_mean, op.Concat(zero, zero, heads, last, axis=0))
    query_projected = op.MatMul(op.Transpose(query_heads, perm=[0, 2, 1, 3]), query_weight)
    causal = op.Cast(op.Constant(value_int=is_causal), to=9)
    if causal:
        # A query block is scored by the block before it, the first by nothing. Not by padding: onnxruntime
        # 1.22 refuses that inside a branch of a function.
        rows = op.Range(0, op.Squeeze(op.Shape(query_projected, start=2, end=3)), 1)
        is_first = op.Equal(op.Unsqueeze(rows, one), zero)
        shifted = op.Where(is_first, 0.0, op.Gather(query_projected, op.Max(op.Sub(rows, one), zero), axis=2))
        before = op.MatMul(shifted, op.Transpose(key_projected, perm=[0, 1, 3, 2]))
        own = op.Equal(op.Unsqueeze(rows, one), op.Unsqueeze(rows, zero))
        scores = op.Where(own, op.Constant(value_float=float("-inf")), before)
    else:
        scores = op.MatMul(query_projected, op.Transpose(key_projected, perm=[0, 1, 3, 2]))
    return scores


@script(_edgesparse, default_opset=op)
def ValueConvolution(
    mixed: FLOAT["B", "N", "C"], value: FLOAT["B", "N", "C"], weight: FLOAT["T", "C"], before: int, width: int
):
    one = op.Constant(value_ints=[1])
    front = op.Reshape(op.Constant(value_int=before), one)
    back = op.Sub(op.Sub(op.Shape(weight, start=0, end=1), front), one)
    zeros = op.Constant(value_ints=[0, 0])
    padded = op.Pad(op.Transpose(value, perm=[0, 2, 1]), op.Concat(zeros, front, zeros, back, axis=0))
    kernel = op.Unsqueeze(op.Transpose(weight, perm=[1, 0]), one)
    # `width` is C: a function can hand an attribute on, not a shape.
    local = op.Conv(padded, kernel, group=width)
    return op.Add(mixed, op.Transpose(local, perm=[0, 2, 1]))


_FUNCTIONS = (Linear, LinearSplit, FeedForward, FilterBankLinear, BlockScores, ValueConvolution)


def bodies(names: set[str], *, same_tokens: bool = False) -> list[ir.Function]:
    """The functions of these names and those that they call, ready to be added to a model's `functions`.

    Args:
        same_tokens: of `function_body`.
    """
    wanted = names | ({"Linear"} if names & {"LinearSplit", "FilterBankLinear", "FeedForward"} else set())
    parts = [part.to_function_proto() for part in SHARED]
    found = [
        ir.serde.deserialize_function(inline_calls(f.to_function_proto(), parts))
        for f in _FUNCTIONS
        if f.name in wanted
    ]
    return found + ([function_body(same_tokens=same_tokens)] if "SparseAttention" in wanted else [])
