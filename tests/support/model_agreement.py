"""One file, two readers: what the checker lets pass is the same model to protobuf and to onnxruntime."""

from __future__ import annotations

import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.check import CheckedModel, check_model
from edgesparse_runtime.model_check.open import session_options
from tests.support.model_differences import kept_parts


def check_agreement(content: bytes, *, opens: bool) -> str | None:
    """What the checker and the others disagree on; None = nothing, "" = the file is refused.

    Args:
        opens: open the file and what was written anew with onnxruntime too, and compare.
    """
    try:
        checked = check_model(content, "m")
    except BundleError as error:
        return "" if str(error).isprintable() else f"a message that does not print: {error!a}"
    try:
        read, written = onnx.load_from_string(content), onnx.load_from_string(checked.content)
    except DecodeError as error:
        return f"protobuf does not read what passed: {error}"
    if kept_parts(read) != kept_parts(written):
        return "protobuf reads another model than was written"
    if check_model(checked.content, "m").content != checked.content:
        return "what was written is written otherwise the next time"
    return _compare_sessions(content, checked) if opens else None


def _compare_sessions(content: bytes, checked: CheckedModel) -> str | None:
    views = [_view(content), _view(checked.content)]
    if views[0] == "refused":
        views[0] = _view(_with_one_name(content))
    return None if views[0] == views[1] else f"onnxruntime sees {views[0]} and {views[1]}"


def _with_one_name(content: bytes) -> bytes:
    """The model with the short name of ONNX's domain in functions' imports, as the writer spells it.

    onnxruntime refuses a function that imports the domain by its long name, whatever its nodes call it.
    """
    model = onnx.load_from_string(content)
    for function in model.functions:
        for imported in function.opset_import:
            if imported.domain == "ai.onnx":
                imported.domain = ""
    return bytes(model.SerializeToString())


def _view(content: bytes) -> object:
    """Inputs and outputs as onnxruntime sees them, or that it refuses."""
    try:
        session = onnxruntime.InferenceSession(content, session_options(1), ["CPUExecutionProvider"])
    except Exception:  # onnxruntime raises a class of its own for each status
        return "refused"
    ends = [*session.get_inputs(), *session.get_outputs(), *session.get_overridable_initializers()]
    return [(end.name, end.type, end.shape) for end in ends]
