"""One node of the operator with its function body in the same file."""

from __future__ import annotations

import onnx
import onnx_ir

from edgesparse_export.functions.sparse_attention import SHORT, function_body
from tests.support.kernels.models import make_model


def make_model_with_body(
    attributes: dict[str, object], with_selection: bool = True, *, short: int = SHORT
) -> onnx.ModelProto:
    """`make_model` plus the model-local function: runs with and without the library.

    The node has both outputs in any case: onnxruntime refuses a call of a function with fewer outputs.
    """
    model = make_model(attributes)
    if not with_selection:
        del model.graph.output[1]
    model.functions.append(onnx_ir.serde.serialize_function(function_body(short=short)))
    return model
