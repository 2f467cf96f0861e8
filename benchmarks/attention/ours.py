"""Our contenders: the native kernel in float32, int8 and causal float32, and the function body."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from benchmarks.attention.case import BLOCK, FLOAT32_ERROR, INT8_ERROR, Case, Contender, relative_error
from tests.support.kernels.body_model import make_model_with_body
from tests.support.kernels.models import make_model
from tests.support.kernels.reference import Attributes

# The body gathers keys and values of every query block: beyond this it would measure the machine's memory.
MOST_GATHERED = 2 * 2**30


def open_session(model: bytes, library: str | None, threads: int) -> onnxruntime.InferenceSession:
    """A session whose threads wait, not spin, while another contender has its turn."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if library:
        options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def node_of(case: Case, *, precision: str = "float32", causal: bool = False) -> dict[str, object]:
    """The node's attributes; the causal form keeps blocks only, as its rival does."""
    return asdict(
        Attributes(
            num_heads=case.heads,
            kv_num_heads=case.heads,
            block_size=BLOCK,
            scale=case.head_size**-0.5,
            summaries=0 if causal else 1,
            is_causal=int(causal),
            precision=precision,
        )
    )


def _contender(
    case: Case, name: str, models: list[onnx.ModelProto], library: str | None, *, causal: bool, limit: float
) -> tuple[Contender, NDArray[np.bool_]]:
    """Checked with the selection as an output, timed without it."""
    checked, timed = (open_session(m.SerializeToString(), library, case.threads) for m in models)
    output, selection = checked.run(None, case.feeds)
    kept = selection[0]
    contender = Contender(
        name,
        lambda: timed.run(None, case.feeds),
        causal_flops(case, kept) if causal else case.sparse_flops,
        relative_error(case, output[0], kept, summaries=not causal, causal=causal),
        limit,
    )
    return contender, kept


def causal_flops(case: Case, kept: NDArray[np.bool_]) -> float:
    """Both products over the kept blocks; a block on the diagonal counts half."""
    blocks = float(kept.sum()) - 0.5 * case.blocks * case.heads
    return 4.0 * blocks * BLOCK**2 * case.head_size


def make_native(
    case: Case, library: str, *, precision: str = "float32", causal: bool = False
) -> tuple[Contender, NDArray[np.bool_]]:
    """The kernel, and the blocks [H, NQ, NK] that it keeps."""
    node = node_of(case, precision=precision, causal=causal)
    models = [make_model(node), make_model(node, with_selection=False)]
    name = "causal float32" if causal else precision
    limit = INT8_ERROR if precision == "int8" else FLOAT32_ERROR
    return _contender(case, name, models, library, causal=causal, limit=limit)


def make_body(case: Case) -> Contender | str:
    """The same node by its function body, or why it is not run."""
    gathered = 2 * 4 * case.heads * case.blocks * case.kept * BLOCK * case.head_size
    if gathered > MOST_GATHERED:
        return f"gathers {gathered / 2**30:.1f} GiB of keys and values"
    node = node_of(case)
    models = [make_model_with_body(node), make_model_with_body(node, with_selection=False)]
    return _contender(case, "function body", models, None, causal=False, limit=FLOAT32_ERROR)[0]
