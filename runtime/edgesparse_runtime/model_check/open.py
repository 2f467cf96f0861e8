"""Opens checked models with onnxruntime; nothing else of this package makes a session of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.check import CheckedModel
from edgesparse_runtime.model_check.fork import survive_fork

# onnxruntime severity: warnings about overridable initializers are by design, errors are raised anyway.
_ONLY_FATAL = 4
_LARGEST_FOLDED = "optimization.constant_folding_max_output_size_in_bytes"


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a session on a device: so many threads, which sleep while they wait.

    The format is pinned: onnxruntime would otherwise recognize its own format by four bytes of the file, and
    read another model than the one that was checked.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(
    model: CheckedModel, name: str, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """A session of a checked model: its content was written anew, so onnxruntime reads what was checked.

    What would cost more than the file lets expect, folding constants and packing weights, is left out.

    Args:
        name: of the model, for messages.

    Raises:
        BundleError: onnxruntime does not load it.
    """
    may = model.preparation
    options.add_session_config_entry(_LARGEST_FOLDED, str(may.folded_bytes))
    if not may.rewrites:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        # Without fallback: a second try with the same provider would only print the first one's error.
        return survive_fork(
            onnxruntime.InferenceSession(
                model.content,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=False,
                disabled_optimizers=[] if may.folds else ["ConstantFolding"],
            )
        )
    except Exception as error:  # onnxruntime raises a class of its own for each status
        raise BundleError(f"{name} must be an ONNX model; {first_line(error)}.") from None


def run_session(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str] | None,
    feeds: Mapping[str, Any],
    options: onnxruntime.RunOptions | None = None,
) -> list[Any]:
    """The outputs by position; None = all.

    Raises:
        RuntimeError: the model does not run on it, or was ended; its text is one clause.
    """
    try:
        return list(session.run(None if outputs is None else list(outputs), dict(feeds), options))
    except Exception as error:  # onnxruntime raises a class of its own for each status
        raise RuntimeError(first_line(error)) from None


def first_line(error: Exception) -> str:
    """What onnxruntime said, without its codes and file names."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(" : ")[-1].strip().rstrip(".")[:200]
