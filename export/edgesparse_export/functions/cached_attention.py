"""Attention of new tokens over a cache and themselves, as a model-local ONNX function of standard operators.

The file cannot postpone its annotations: onnxscript reads them. Shape legend: `B` rows, `N` new tokens, `P`
tokens in the cache, `T = P + N`, `H` heads of which `R` share each of `G` key/value heads, `D` head size.
"""

# onnxscript compiles this function from its source: to a type checker its int64 scalars are not tensors.
# mypy: ignore-errors

import onnx_ir as ir
from onnxscript import FLOAT, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.domain import DOMAIN, VERSION

NAME = "CachedAttention"
_edgesparse = Opset(DOMAIN, VERSION)


@script(_edgesparse, default_opset=op)
def CachedAttention(
    query: FLOAT["B", "N", "HD"],
    key: FLOAT["B", "N", "GD"],
    value: FLOAT["B", "N", "GD"],
    past_key: FLOAT["B", "G", "P", "D"],
    past_value: FLOAT["B", "G", "P", "D"],
    num_heads: int,
    kv_num_heads: int,
    scale: float,
):
    heads = op.Reshape(op.Constant(value_int=num_heads), op.Constant(value_ints=[1]))
    groups = op.Reshape(op.Constant(value_int=kv_num_heads), op.Constant(value_ints=[1]))
    keep = op.Constant(value_ints=[0, 0])
    rest = op.Constant(value_ints=[-1])
    by_group = op.Concat(keep, groups, rest, axis=0)
    present_key = op.Concat(past_key, op.Transpose(op.Reshape(key, by_group), perm=[0, 2, 1, 3]), axis=2)
    present_value = op.Concat(
        past_value, op.Transpose(op.Reshape(value, by_group), perm=[0, 2, 1, 3]), axis=2
    )
    count = op.Shape(query, start=1, end=2)
    # [B, N, G, R, D] -> [B, G, R, N, D] -> [B, G, R*N, D]
    shared = op.Div(heads, groups)
    split = op.Reshape(query, op.Concat(keep, groups, shared, rest, axis=0))
    scaled = op.Mul(op.Transpose(split, perm=[0, 2, 3, 1, 4]), op.Constant(value_float=scale))
    rows = op.Reshape(scaled, op.Concat(keep, op.Mul(shared, count), rest, axis=0), allowzero=0)
    # `keep` copies rows and groups: the axes of `scaled` begin with them.
    logits = op.MatMul(rows, op.Transpose(present_key, perm=[0, 1, 3, 2]))
    past = op.Shape(past_key, start=2, end=3)
    total = op.Add(past, count)
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    place = op.Add(op.Range(zero, op.Squeeze(count), one), past)
    allowed = op.LessOrEqual(
        op.Unsqueeze(op.Range(zero, op.Squeeze(total), one), op.Constant(value_ints=[0])),
        op.Unsqueeze(place, op.Constant(value_ints=[1])),
    )
    by_query = op.Reshape(logits, op.Concat(keep, shared, count, rest, axis=0))
    hidden = op.Where(allowed, by_query, op.Constant(value_float=-3.4e38))
    weights = op.Reshape(op.Softmax(hidden, axis=-1), op.Shape(logits))
    mixed = op.Reshape(op.MatMul(weights, present_value), op.Concat(keep, shared, count, rest, axis=0))
    # [B, G, R, N, D] -> [B, N, G, R, D] -> [B, N, H*D]
    by_token = op.Transpose(mixed, perm=[0, 3, 1, 2, 4])
    output = op.Reshape(by_token, op.Concat(op.Shape(query, start=0, end=2), rest, axis=0))
    return output, present_key, present_value


def cached_attention_body() -> ir.Function:
    """The function, ready to be added to a model's `functions`."""
    return ir.serde.deserialize_function(CachedAttention.to_function_proto())
