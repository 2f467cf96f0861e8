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
from edgesparse_export.functions.token_blocks import SHARED
from edgesparse_export.functions.whole_attention import WHOLE

_edgesparse = Opset(DOMAIN, VERSION)
# Pairs of query and key of a window of 128 tokens.
SHORT = 128 * 128


@script(_edgesparse, default_opset=op)
def IsShort(query_tokens: INT64[1], key_tokens: INT64[1]):
    """Whether every query is compared with every key. `function_body` puts its number in."""
    return op.Squeeze(op.LessOrEqual(op.Mul(query_tokens, key_tokens), op.Constant(value_int=0)))


@script(_edgesparse, default_opset=op)
def QueryPlaces(query: FLOAT["B", "N", "HD"], key_mask: BOOL["B", "M"], block_size: int):
    """The number of query tokens, int64 [1], and the token at each place of each block, int64 [Q, b]."""
    tokens = op.Shape(query, start=1, end=2)
    places, _ = _edgesparse.BlockPlaces(tokens, block_size=block_size)
    return tokens, places


@script(_edgesparse, default_opset=op)
def SelfQueryPlaces(query: FLOAT["B", "N", "HD"], key_mask: BOOL["B", "N"], block_size: int):
    """The same where queries and keys are the same tokens: computed once per model, as it is for keys."""
    tokens = op.Shape(key_mask, start=1, end=2)
    places, _ = _edgesparse.BlockPlaces(tokens, block_size=block_size)
    return tokens, places


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
    places, real, counts = _edgesparse.RealPlaces(key_mask, block_size=block_size)
    query_tokens, query_places = _edgesparse.QueryPlaces(query, key_mask, block_size=block_size)
    _, query_blocks = _edgesparse.BlockNumbers(query_tokens, block_size=block_size)
    key_count = op.Shape(key_mask, start=1, end=2)
    block_count, key_blocks = _edgesparse.BlockNumbers(key_count, block_size=block_size)
    reach, in_window = _edgesparse.BlockReach(
        counts, query_blocks, key_blocks, window=window, is_causal=is_causal
    )
    order, kept, selection = _edgesparse.SelectBlocks(
        block_scores, top_p, max_blocks, reach, in_window, block_count, key_blocks
    )
    key_tokens = op.GatherND(key, places, batch_dims=1)
    key_means = _edgesparse.BlockMeans(key_tokens, real, counts)
    is_short = _edgesparse.IsShort(query_tokens, key_count)
    # All tokens or none: what is made of pairs of tokens is computed here, once per model, and for few only.
    few = op.Mul(key_count, op.Cast(is_short, to=7))
    few_mask = op.Slice(key_mask, op.Constant(value_ints=[0]), few, op.Constant(value_ints=[1]))
    to_tokens = _edgesparse.BlocksToTokens(key_blocks, few_mask, block_size=block_size)
    query_block = op.Div(op.Range(0, op.Squeeze(query_tokens), 1), op.Constant(value_int=block_size))
    hidden = _edgesparse.HiddenTokens(few_mask, is_causal=is_causal)
    real_keys = op.Unsqueeze(op.Cast(few_mask, to=1), op.Constant(value_ints=[2]))
    if is_short:
        output = _edgesparse.AttendWhole(
            query, key, value, real_keys, key_means, selection, query_block, to_tokens, hidden,
            num_heads=num_heads, kv_num_heads=kv_num_heads, scale=scale, summaries=summaries,
            is_causal=is_causal,
        )  # fmt: skip
    else:
        output = _edgesparse.AttendGathered(
            query, key_tokens, value, query_places, places, real, counts, key_means, reach, order, kept,
            selection, num_heads=num_heads, kv_num_heads=kv_num_heads, block_size=block_size, scale=scale,
            summaries=summaries, is_causal=is_causal,
        )  # fmt: skip
    return output, selection


def function_body(*, same_tokens: bool = False, short: int = SHORT) -> ir.Function:
    """The operator's function, ready to be added to a model's `functions`.

    Args:
        same_tokens: queries and keys are as many at every call of the model, which saves nodes.
        short: at most so many pairs of query and key are all computed.
    """
    is_short = IsShort.to_function_proto()
    (most,) = (node.attribute[0] for node in is_short.node if node.op_type == "Constant")
    most.i = short
    query_places = (SelfQueryPlaces if same_tokens else QueryPlaces).to_function_proto()
    query_places.name = "QueryPlaces"
    parts = [part.to_function_proto() for part in (*SHARED, *PARTS, *WHOLE)]
    body = inline_calls(SparseAttention.to_function_proto(), [is_short, query_places, *parts])
    return ir.serde.deserialize_function(body)
