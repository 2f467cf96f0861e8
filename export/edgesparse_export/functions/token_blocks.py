"""Steps that several function bodies share: tokens in blocks, and their means.

What they compute from the mask alone is written alike wherever it is needed, so that onnxruntime, which
merges equal nodes once it has inlined the functions, computes it once per model and not once per layer. The
same holds for the means of keys, which the router and attention both need.

The file cannot postpone its annotations: onnxscript reads them. Shape legend: `B` batch, `M` tokens, `K`
blocks, `b` block size, `C` width.
"""

# onnxscript compiles these functions from their source: to a type checker int64 scalars are not tensors.
# mypy: ignore-errors

from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from edgesparse_export.functions.domain import DOMAIN, VERSION

_edgesparse = Opset(DOMAIN, VERSION)


@script(_edgesparse, default_opset=op)
def BlockNumbers(tokens: INT64[1], block_size: int):
    """How many blocks so many tokens have, int64 [1], and their numbers, int64 [K]."""
    size = op.Constant(value_int=block_size)
    blocks = op.Div(op.Add(tokens, op.Sub(size, 1)), size)
    return blocks, op.Range(0, op.Squeeze(blocks), 1)


@script(_edgesparse, default_opset=op)
def BlockPlaces(tokens: INT64[1], block_size: int):
    """Tokens by block, int64 [K, b], the last repeated where none is, and whether one is, bool [K, b]."""
    _, blocks = _edgesparse.BlockNumbers(tokens, block_size=block_size)
    size = op.Constant(value_int=block_size)
    first = op.Unsqueeze(op.Mul(blocks, size), op.Constant(value_ints=[1]))
    places = op.Add(first, op.Range(0, size, 1))
    return op.Min(places, op.Sub(tokens, op.Constant(value_ints=[1]))), op.Less(places, tokens)


@script(_edgesparse, default_opset=op)
def RealPlaces(key_mask: BOOL["B", "M"], block_size: int):
    """Real tokens by block, int64 [B, K, b, 1], which of them stand there, bool [B, K, b], and counts [B, K].

    Where no real token stands, the place holds one of the same block: a largest value needs no mask then, a
    mean has a weight of zero for it, and what padding holds is never read.
    """
    last = op.Constant(value_ints=[-1])
    places, is_token = _edgesparse.BlockPlaces(op.Shape(key_mask, start=1, end=2), block_size=block_size)
    real = op.And(op.Gather(key_mask, places, axis=1), is_token)
    some = op.ReduceMax(op.Where(real, places, op.Constant(value_int=0)), last, keepdims=1)
    counts = op.ReduceSum(op.Cast(real, to=1), last, keepdims=0)
    return op.Unsqueeze(op.Where(real, places, some), last), real, counts


@script(_edgesparse, default_opset=op)
def BlockMeans(tokens: FLOAT["B", "K", "b", "C"], real: BOOL["B", "K", "b"], counts: FLOAT["B", "K"]):
    """The mean over each block's real tokens, zero where none is: [B, K, 1, C]."""
    divisor = op.Unsqueeze(op.Max(counts, op.Constant(value_float=1.0)), op.Constant(value_ints=[-1]))
    share = op.Unsqueeze(op.Div(op.Cast(real, to=1), divisor), op.Constant(value_ints=[2]))
    return op.MatMul(share, tokens)


@script(_edgesparse, default_opset=op)
def RepeatHeads(x: FLOAT["B", "G", "X", "Y"], num_heads: int, kv_num_heads: int):
    """[B, G, ...] -> [B, H, ...]: each query head with the key/value head that it reads."""
    heads = op.Constant(value_int=num_heads)
    groups = op.Constant(value_int=kv_num_heads)
    # onnxruntime drops the branch that does not apply when it loads the model.
    if op.Equal(heads, groups):
        repeated = op.Identity(x)
    else:
        repeated = op.Gather(x, op.Div(op.Range(0, heads, 1), op.Div(heads, groups)), axis=1)
    return repeated


SHARED = (BlockNumbers, BlockPlaces, RealPlaces, BlockMeans, RepeatHeads)
