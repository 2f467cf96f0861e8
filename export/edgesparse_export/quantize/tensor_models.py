"""int8 of models with named input tensors: gated on how close the golden states stay to float32.

The task of an exported encoder is not known here, so there is no metric of one: the cosine is the gate.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from edgesparse_export.quantize.gate import Change
from edgesparse_export.quantize.recipe import Int8Recipe
from edgesparse_export.quantize.search import Found
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.tensors.batch import TensorBatch, golden_inputs
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.evaluation.metrics import Metric, wilson_interval
from edgesparse_runtime.session import Session

METRIC = "cosine to float32"
FloatArray = npt.NDArray[np.float32]


def quantize_tensor_model(
    bundle: Bundle, model: onnx.ModelProto, recipe: Int8Recipe, max_drop: float
) -> Found:
    """The int8 model and what it changed on the bundle's golden inputs.

    Raises:
        InputError: static mode, or a bundle without golden inputs.
        GateError: the mean cosine of the states drops by more than `max_drop`.
    """
    if recipe.mode == "static":
        raise InputError("`mode` must be dynamic for a model with named input tensors; got static.")
    inputs = golden_inputs(bundle.golden())
    if not isinstance(inputs, TensorBatch):
        raise InputError(f"{bundle.path} must hold golden inputs. Export the bundle again.")
    content: bytes = recipe.apply(model).SerializeToString()
    before, after = Session(bundle, precision="float32"), Session("model.int8.onnx", content=content)
    near = cosines(before.predict(inputs), after.predict(inputs))
    drop = 1.0 - float(near.mean())
    if drop > max_drop:
        raise GateError(
            f"int8 must cost at most {max_drop:g} {METRIC}; it costs {drop:.4f} on {near.size} states. "
            "The bundle is unchanged. Allow more with `--max-drop`."
        )
    low, high = (float(x) for x in np.quantile(near, [0.025, 0.975]))
    overlap = None
    if before.is_sparse:
        pairs = list(zip(before.selections(inputs), after.selections(inputs), strict=True))
        total = sum(a.size for a, _ in pairs)
        share = sum(int((a == b).sum()) for a, b in pairs) / total
        overlap = Metric("block choices equal", share, *wilson_interval(round(share * total), total), total)
    change = Change(
        series=len(inputs),
        metric=Metric(METRIC, 1.0, 1.0, 1.0, near.size),
        int8=Metric(METRIC, float(near.mean()), low, high, near.size),
        drop=drop,
        flipped=None,
        selection_overlap=overlap,
        alarms=None,
    )
    return Found(recipe, content, change, [], 1, True)


def cosines(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """Of all pairs of vectors along the last axis."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    near: npt.NDArray[np.float64] = (x * y).sum(-1) / np.maximum(lengths, 1e-12)
    return near
