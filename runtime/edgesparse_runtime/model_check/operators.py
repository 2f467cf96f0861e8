"""Which operators a model may hold.

The list is of what the exporter and the drop-in emit, and of plain relatives of those (arithmetic, shapes,
reductions, matrix products) that exported transformers are made of. It is a list of operators and not of
domains: onnxruntime has hundreds more, and not all of them have withstood hostile inputs. A user's own model
may need others; those are named one by one in `EDGESPARSE_ALLOW_OPERATORS`, as `ai.onnx::LSTM`.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from edgesparse_runtime.errors import InputError

ALLOW_VARIABLE = "EDGESPARSE_ALLOW_OPERATORS"
ONNX_NAMES = ("", "ai.onnx")
OWN_DOMAIN = "edgesparse"
# Never, whatever is allowed: they repeat a part of the model, or load another file.
REFUSED_OPERATORS = frozenset({"Loop", "Scan", "SequenceMap", "EPContext"})
# Domains whose operators onnxruntime brings; no function of a file may take the name of one.
_TAKEN_DOMAINS = ("ai.onnx", "com.microsoft", "com.ms", "org.pytorch")

_ONNX = (
    "Abs Acos Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast CastLike Ceil Clip "
    "Concat Constant ConstantOfShape Conv ConvInteger Cos Cosh CumSum DequantizeLinear Div "
    "DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND "
    "Gelu Gemm GlobalAveragePool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity "
    "If InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax "
    "MatMul MatMulInteger Max MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow QLinearConv "
    "QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp "
    "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round "
    "ScatterElements ScatterND Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Split Sqrt Squeeze "
    "Sub Sum Tan Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor "
)
_ONNXRUNTIME = ("MultiHeadAttention",)
_OWN = (
    "BlockScores CompetingFilters FeedForward FilterBank FilterBankLinear KernelBank KernelBankLinear "
    "KernelInfo Linear LinearSplit SampledScores SparseAttention ValueConvolution WindowAttention "
)

Operator = tuple[str, str]
ALLOWED: frozenset[Operator] = frozenset(
    [("", name) for name in _ONNX.split()]
    + [("com.microsoft", name) for name in _ONNXRUNTIME]
    + [(OWN_DOMAIN, name) for name in _OWN.split()]
)


def plain_domain(domain: str) -> str:
    """The domain as onnxruntime resolves it: `ai.onnx` and the empty one are the same."""
    return "" if domain in ONNX_NAMES else domain


def is_taken(domain: str) -> bool:
    """True for a domain in which a file may not define functions."""
    return domain in ONNX_NAMES or domain.startswith(_TAKEN_DOMAINS)


def allowed_operators(further: Collection[str] = ()) -> frozenset[Operator]:
    """The list, and what the caller and the environment allow besides.

    Args:
        further: operators as `DOMAIN::NAME`; the domain of ONNX's own is `ai.onnx`.

    Raises:
        InputError: one is not of that form, or is never allowed.
    """
    named = [*further, *os.environ.get(ALLOW_VARIABLE, "").replace(",", " ").split()]
    return ALLOWED | {_parse(text) for text in named}


def _parse(text: str) -> Operator:
    domain, mark, name = text.partition("::")
    if not mark or not name.isidentifier() or name in REFUSED_OPERATORS:
        raise InputError(
            f"`{ALLOW_VARIABLE}` must name operators as DOMAIN::NAME, none of them "
            f"{', '.join(sorted(REFUSED_OPERATORS))}; got {text[:80]!r}."
        )
    return plain_domain(domain), name
