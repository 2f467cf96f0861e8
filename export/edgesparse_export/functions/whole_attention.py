"""The operator for few tokens, in few nodes: every key is compared with every query, and nothing is gathered.

A dropped block takes part with its mean key and value, and the logarithm of its token count on the logit.
That is the same as each of its tokens taking part with the logit of the mean key: the weights of `n` equal
logits `s` add up to `n * exp(s) = exp(s + log(n))`, and their weighted values to `n` times the mean value. So
one softmax over all tokens is enough: a token's logit is its own where its block is kept and the mean key's
where it is dropped, and one that leaves no weight where the token is not visible.

The file cannot postpone its annotations: onnxscript reads them. Shape legend as in attention_parts.py.
"""

# onnxscript compiles these functions from their source: to a type checker int64 scalars are not tensors.
# mypy: ignore-errors

from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.domain import DOMAIN, VERSION

_edgesparse = Opset(DOMAIN, VERSION)
# Beside it any logit is nothing, and its exponential beside that of any logit.
LOWEST = -1e38


@script(_edgesparse, default_opset=op)
def BlocksToTokens(blocks: INT64["K"], key_mask: BOOL["B", "M"], block_size: int):
    """The matrix that repeats a value per block for its tokens: 1 where token m is in block k, [K, M]."""
    tokens = op.Range(0, op.Squeeze(op.Shape(key_mask, start=1, end=2)), 1)
    block = op.Div(tokens, op.Constant(value_int=block_size))
    return op.Cast(op.Equal(op.Unsqueeze(blocks, op.Constant(value_ints=[1])), block), to=1)


@script(_edgesparse, default_opset=op)
def HiddenTokens(key_mask: BOOL["B", "M"], is_causal: int):
    """0 for keys that a query may see, else a number that leaves them no weight: [B, 1, 1 or N, M].

    Finite, because a softmax over nothing is NaN.
    """
    seen_by_all = op.Unsqueeze(key_mask, op.Constant(value_ints=[1, 2]))
    causal = op.Cast(op.Constant(value_int=is_causal), to=9)
    if causal:
        tokens = op.Range(0, op.Squeeze(op.Shape(key_mask, start=1, end=2)), 1)
        seen = op.And(seen_by_all, op.LessOrEqual(tokens, op.Unsqueeze(tokens, op.Constant(value_ints=[1]))))
    else:
        seen = op.Identity(seen_by_all)
    return op.Where(seen, op.Constant(value_float=0.0), op.Constant(value_float=LOWEST))


@script(_edgesparse, default_opset=op)
def TokenHeads(x: FLOAT["B", "M", "GD"], groups: INT64[1]):
    """[B, M, G*D] -> [B, G, M, D]; an axis of 1 before the last may be there."""
    shape = op.Concat(op.Constant(value_ints=[0, 0]), groups, op.Constant(value_ints=[-1]), axis=0)
    return op.Transpose(op.Reshape(x, shape), perm=[0, 2, 1, 3])


@script(_edgesparse, default_opset=op)
def Logits(query: FLOAT["B", "H", "N", "D"], key: FLOAT["B", "M", "GD"], num_heads: int, kv_num_heads: int):
    """[B, H, N, M]."""
    groups_1 = op.Reshape(op.Constant(value_int=kv_num_heads), op.Constant(value_ints=[1]))
    turned = _edgesparse.TokenHeads(key, groups_1)
    repeated = _edgesparse.RepeatHeads(turned, num_heads=num_heads, kv_num_heads=kv_num_heads)
    return op.MatMul(query, op.Transpose(repeated, perm=[0, 1, 3, 2]))


@script(_edgesparse, default_opset=op)
def AttendWhole(
    query: FLOAT["B", "N", "HD"], key: FLOAT["B", "M", "GD"], value: FLOAT["B", "M", "GE"],
    real_keys: FLOAT["B", "M", 1], key_means: FLOAT["B", "K", 1, "GD"], selection: BOOL["B", "H", "Q", "K"],
    query_block: INT64["N"], to_tokens: FLOAT["K", "M"], hidden: FLOAT["B", 1, "N", "M"],
    num_heads: int, kv_num_heads: int, scale: float, summaries: int, is_causal: int,
):  # fmt: skip
    """The output [B, N, H*E].

    Sums and products in place of `Where`, which takes onnxruntime longer over all pairs.
    """
    one = op.Constant(value_ints=[1])
    heads_1 = op.Reshape(op.Constant(value_int=num_heads), one)
    groups_1 = op.Reshape(op.Constant(value_int=kv_num_heads), one)
    query_scaled = op.Mul(_edgesparse.TokenHeads(query, heads_1), op.Constant(value_float=scale))
    token_logits = _edgesparse.Logits(query_scaled, key, num_heads=num_heads, kv_num_heads=kv_num_heads)
    # 1 where the key's block is kept for the query's, [B, H, N, M].
    kept = op.Gather(op.MatMul(op.Cast(selection, to=1), to_tokens), query_block, axis=2)
    with_summaries = op.Cast(op.Constant(value_int=summaries), to=9)
    if with_summaries:
        block_logits = _edgesparse.Logits(
            query_scaled, key_means, num_heads=num_heads, kv_num_heads=kv_num_heads
        )
        mean_logits = op.MatMul(block_logits, to_tokens)
        seen_logits = op.Add(mean_logits, op.Mul(kept, op.Sub(token_logits, mean_logits)))
    else:
        seen_logits = op.Add(token_logits, op.Mul(op.Sub(kept, 1.0), op.Constant(value_float=-LOWEST)))
    logits = op.Add(seen_logits, hidden)
    # Where all keys are padding, their values are zero here.
    value_heads = _edgesparse.RepeatHeads(
        _edgesparse.TokenHeads(op.Mul(value, real_keys), groups_1),
        num_heads=num_heads,
        kv_num_heads=kv_num_heads,
    )
    weighted = op.MatMul(op.Softmax(logits, axis=-1), value_heads)
    with_blind_rows = op.Or(op.Cast(op.Constant(value_int=is_causal), to=9), op.Not(with_summaries))
    if with_blind_rows:
        # Such a query sees no key, and weighs all that are real alike.
        best = op.ReduceMax(logits, op.Constant(value_ints=[-1]), keepdims=1)
        seen = op.Greater(best, op.Constant(value_float=LOWEST / 2))
        mixed = op.Where(seen, weighted, op.Constant(value_float=0.0))
    else:
        mixed = op.Identity(weighted)
    return op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))


WHOLE = (BlocksToTokens, HiddenTokens, TokenHeads, Logits, AttendWhole)
