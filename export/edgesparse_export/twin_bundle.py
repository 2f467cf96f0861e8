"""A bundle to the same bundle with the dense twin of each precision, held against the model itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgesparse_export.passes.dense_twin import dense_twin
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.bundle.write import rewrite_bundle
from edgesparse_runtime.dense_twin.lookup import hash_of, twin_file
from edgesparse_runtime.errors import GateError, InputError
from edgesparse_runtime.session import Session

# More blocks than any window has.
ALL_BLOCKS = 1 << 30
# At 100 % density both compute the same: float32 as between engines (docs/reference/numerics.md). The int8
# kernel rounds what the twin's attention does not: a share of the largest score, as `make prove-target`
# allows it.
RELATIVE, ABSOLUTE, INT8_SHARE = 1e-4, 1e-5, 0.1


def add_twins(bundle: Bundle, precisions: list[str]) -> Bundle:
    """Add the twins that are missing, or were made of an older model.

    Raises:
        InputError: a model of existing tensors, a dense one, or one whose attention onnxruntime has no fused
            form of.
        GateError: a twin's outputs differ from the model's with every block kept; nothing is written.
    """
    if bundle.manifest["input"].get("tensors"):
        raise InputError(f"{bundle.path} must take windows; break-even is not measured for other models.")
    files: dict[str, bytes] = {}
    entries: dict[str, Any] = dict(bundle.manifest["dense"])
    for precision in precisions:
        if twin_file(bundle.manifest, precision) is not None:
            continue
        twin = dense_twin(onnx.load_from_string(bundle.read(bundle.model_file(precision))))
        if twin is None:
            raise InputError(
                f"{bundle.path} must have sparse attention with as many key heads as query heads; its "
                f"{precision} model has no dense twin, and runs as it is."
            )
        content = twin.SerializeToString()
        difference = _check(bundle, precision, content)
        name = "model.dense.onnx" if precision == "float32" else f"model.{precision}.dense.onnx"
        files[name] = content
        entries[precision] = {
            "file": name,
            "of": hash_of(bundle.manifest, precision),
            "largest_difference": difference,
        }
    return rewrite_bundle(bundle, files, {"dense": entries}) if files else bundle


def _check(bundle: Bundle, precision: str, content: bytes) -> float:
    """Largest difference on the golden windows from the sparse model that keeps every block."""
    windows = bundle.golden()["windows"]
    twin = Session(f"{precision} twin", content=content).predict(windows)
    model = Session(bundle, precision=precision, top_p=1.0, max_blocks=ALL_BLOCKS, attention="sparse")
    expected = model.predict(windows)
    difference = np.abs(twin - expected)
    if precision == "float32":
        allowed = ABSOLUTE + RELATIVE * np.abs(expected)
    else:
        allowed = np.full_like(expected, INT8_SHARE * float(np.abs(expected).max()))
    if not (difference <= allowed).all():
        raise GateError(
            f"The dense twin must output what the {precision} model outputs with every block kept; scores "
            f"differ by {difference.max():.2e}. Nothing was written."
        )
    return float(difference.max())
