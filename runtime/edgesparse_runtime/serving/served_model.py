"""One loaded bundle as the server sees it: never changed after loading, replaced as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime

from edgesparse_runtime.arrays import BoolArray
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.evaluation.verify import check_scores
from edgesparse_runtime.serving.addresses import Place
from edgesparse_runtime.serving.refusal import Refusal
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.serving.tensors import FloatArray, WindowBounds
from edgesparse_runtime.session import Session

MOST_EXPLAINED = 8


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A bundle, its session, and what the answers say of it.

    Attributes:
        place: name, version and path.
        bundle_hash: sha256 of the manifest, which holds the sha256 of every file.
        session: runs it.
        bounds: of its input.
        max_rows: windows that may share a run; None = any number.
    """

    place: Place
    bundle_hash: str
    session: Session
    bounds: WindowBounds
    max_rows: int | None

    @property
    def bundle(self) -> Bundle:
        assert self.session.bundle is not None
        return self.session.bundle

    def output_names(self, operation: str) -> tuple[str, ...]:
        """What `infer` or `explain` may be asked for."""
        return ("scores",) if operation == "infer" else ("scores", *self.session.selection_names)

    def explain_bounds(self) -> WindowBounds:
        """As `bounds`, for fewer windows: a selection grows with the square of a window's length.

        Raises:
            Refusal: 400, the model is dense.
        """
        if not self.session.selection_names:
            raise Refusal(400, f"Model {self.place.name} attends to everything; it has no selection to show.")
        return replace(self.bounds, most_windows=min(MOST_EXPLAINED, self.bounds.most_windows))

    def scores(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> FloatArray:
        """Scores [n, k] of windows [n, channels, steps]."""
        return self.session.predict(window, batch_size=max(1, len(window)), options=options)

    def explain(self, window: FloatArray) -> dict[str, FloatArray | BoolArray]:
        """Scores, and the blocks attended to as bool [n, heads, query blocks, key blocks] a layer."""
        outputs: dict[str, FloatArray | BoolArray] = {"scores": self.session.predict(window)}
        names = self.session.selection_names
        return outputs | dict(zip(names, self.session.selections(window), strict=True))

    def explain_parameters(self, outputs: Mapping[str, FloatArray | BoolArray]) -> dict[str, Any]:
        """How to read a selection: tokens a block, and the share of blocks kept a layer."""
        attention = self.bundle.manifest.get("attention", {})
        kept = {f"density.{name}": float(outputs[name].mean()) for name in self.session.selection_names}
        return {"block_size": attention.get("block_size", 0), **kept}

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """Model metadata of the protocol."""
        steps: list[int] = [-1, self.bounds.channels or -1, -1]
        manifest = self.bundle.manifest
        return {
            "name": self.place.name,
            "versions": versions,
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "window", "datatype": "FP32", "shape": steps}],
            "outputs": [
                {"name": "scores", "datatype": "FP32", "shape": [-1, len(self.bundle.classes) or -1]}
            ],
            "parameters": self.parameters()
            | {
                "task": self.bundle.task,
                "channels": list(self.bundle.channels),
                "classes": list(self.bundle.classes),
                "precision": self.session.precision,
                "engine": self.session.engine,
                "min_steps": self.bounds.min_steps,
                "max_steps": self.bounds.max_steps,
                "longest_training_window": manifest["input"].get("longest"),
            },
        }

    def parameters(self) -> dict[str, Any]:
        """What every answer says of the model that gave it."""
        return {"bundle_sha256": self.bundle_hash}


def load(place: Place, settings: Settings) -> ServedModel:
    """Open a bundle, run its golden vectors, and hand back a model that answers as it did where it was made.

    Raises:
        EdgeSparseError: the bundle is missing, damaged, takes named tensors, or does not give its golden
            scores here.
    """
    bundle = open_bundle(place.path, trusted_keys=settings.trusted_keys)
    session = Session(bundle, precision=settings.precision, threads=settings.threads)
    if session.takes_tensors:
        raise BundleError(
            f"{place.path} must take windows of channels and steps to be served; it takes named tensors "
            "(a drop-in model). Run it with edgesparse_runtime.Session."
        )
    check = check_scores(session)
    if not check.holds:
        raise BundleError(
            f"{place.path} must answer here as where it was made; {check.boundary}: {check.detail}."
        )
    least = int(bundle.manifest["input"].get("min_steps", 1))
    channels = session.channel_count if isinstance(session.channel_count, int) else None
    bounds = WindowBounds(channels, max(1, least), settings.max_steps, settings.max_windows)
    # Dynamic int8 sets its scale over the whole batch: an answer must not depend on who else asks.
    max_rows = 1 if session.precision == "int8" else None
    model = ServedModel(place, hashlib.sha256(bundle.manifest_bytes).hexdigest(), session, bounds, max_rows)
    if not np.isfinite(model.scores(np.zeros((1, channels or 1, max(least, 16)), np.float32))).all():
        raise BundleError(f"{place.path} gives scores that are not finite for a window of zeros.")
    return model
