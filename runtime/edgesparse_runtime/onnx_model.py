"""`OnnxModel`: one ONNX model, opened with the engine, threads and knobs that it will run with."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgesparse_runtime.engine import register
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.machine.cgroup import cgroup_quota
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.model_check.open import open_session, run_session, session_options

# The operator that scales activations over everything that shares a run.
_SHARED_SCALE = b"DynamicQuantizeLinear"
# An operator of ours that models without attention have, and one of onnxruntime's that dense ones have.
_FEATURES, _DENSE_ATTENTION = b"CompetingFilters", b"MultiHeadAttention"


def default_threads() -> int:
    """Cores this process may use: CPU affinity, and the container's quota where there is one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(allowed, int(quota)) if quota else allowed)


class OnnxModel:
    """An opened model.

    Args:
        content: the bytes of the file.
        path: where they lie, for messages.
        threads, engine, trace, operators: as `Session` has them.

    Attributes:
        content: the model as it runs: the file's content, checked and written anew.
        inputs: onnxruntime's description of the inputs that have no default.
        outputs: their names.
        is_sparse: it has the knobs of sparse attention.
        engine: what runs attention, or the features of a model without attention.
        rows_share_scale: an answer depends on the rows that share a run, if only by rounding.
    """

    def __init__(
        self,
        content: bytes,
        path: Path,
        *,
        threads: int,
        engine: str = "auto",
        top_p: float | None = None,
        max_blocks: int | None = None,
        trace: Path | None = None,
        operators: Collection[str] = (),
    ) -> None:
        options = session_options(threads)
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace / "profile")
            options.optimized_model_filepath = str(trace / "optimized.onnx")
        attached = str(register(options, wanted=engine))
        self.path = path
        checked = check_model(content, str(path), operators=operators)
        self.content = checked.content
        self.session = open_session(checked, str(path), options)
        self.inputs = self.session.get_inputs()
        _check_scores(path, self.session)
        shapes = {o.name: o.shape for o in self.session.get_outputs()}
        self.outputs = list(shapes)
        scores: Sequence[Any] = shapes.get("scores") or ()
        self.score_count = scores[1] if len(scores) == 2 and isinstance(scores[1], int) else None
        knobs = {knob.name: knob for knob in self.session.get_overridable_initializers()}
        self.is_sparse = "top_p" in knobs
        has_features = _FEATURES in checked.content and _DENSE_ATTENTION not in checked.content
        # A dense model's attention is onnxruntime's own.
        self.engine = attached if self.is_sparse or has_features else "onnxruntime"
        self.knobs = _overrides(knobs, top_p, max_blocks)
        self.rows_share_scale = _SHARED_SCALE in checked.content

    def run(
        self,
        outputs: Sequence[str],
        feeds: Mapping[str, Any],
        shape: Sequence[int],
        options: onnxruntime.RunOptions | None = None,
    ) -> list[Any]:
        """The outputs by position.

        Args:
            shape: of the batch, for messages.

        Raises:
            InputError: the model does not run on it, or was ended.
        """
        try:
            return run_session(self.session, outputs, {**feeds, **self.knobs}, options)
        except RuntimeError as error:
            raise InputError(f"{self.path.name} does not run on input {list(shape)}; {error}.") from None


def _check_scores(path: Path, session: onnxruntime.InferenceSession) -> None:
    """Whoever reads scores reads them as float32."""
    for output in session.get_outputs():
        if output.name in ("scores", "token_scores", "unknown") and output.type != "tensor(float)":
            raise BundleError(
                f"{path} must return `{output.name}` as tensor(float); it returns {output.type}. "
                "Export it again."
            )


def _overrides(knobs: Mapping[str, Any], top_p: float | None, max_blocks: int | None) -> dict[str, Any]:
    """What to feed over the model's defaults."""
    feed: dict[str, Any] = {}
    for name, value in (("top_p", top_p), ("max_blocks", max_blocks)):
        if value is None:
            continue
        if name not in knobs:
            raise InputError(f"`{name}` must be left out; this model is dense and has no such knob.")
        kind = np.float32 if name == "top_p" else np.int64
        feed[name] = np.full(knobs[name].shape, value, dtype=kind)
    return feed
