"""One loaded bundle of the server: immutable once loaded, replaced as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime

from edgesparse_runtime.arrays import BoolArray
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.sensors.input_check import InputCheck, input_check_of
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.evaluation.verify import check_scores
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.tensors import FloatArray, WindowBounds
from edgesparse_runtime.serving.settings import Settings
from edgesparse_runtime.session import Session

MOST_EXPLAINED = 8
# What can be sent as FP32 without a surprise.
_SCORE_TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A bundle, its session, and the facts that answers carry.

    Attributes:
        address: name, version and path.
        bundle_hash: sha256 of the manifest, which holds the sha256 of every file.
        session: runs the model.
        bounds: of the input.
        max_rows: windows that may share a run; None = any number.
        check: finds dead sensors.
    """

    address: Address
    bundle_hash: str
    session: Session
    bounds: WindowBounds
    max_rows: int | None
    check: InputCheck

    @property
    def bundle(self) -> Bundle:
        assert self.session.bundle is not None
        return self.session.bundle

    @property
    def _tells(self) -> bool:
        return self.session.unknown_threshold is not None

    def output_names(self, operation: str) -> tuple[str, ...]:
        """Outputs of `infer` or `explain`."""
        own = ("scores", "unknown") if self._tells else ("scores",)
        return own if operation == "infer" else (*own, *self.session.selection_names)

    def explain_bounds(self) -> WindowBounds:
        """As `bounds`, for fewer windows: a selection grows with the square of a window's length.

        Raises:
            Refusal: 400, the model is dense.
        """
        if not self.session.selection_names:
            raise Refusal(400, f"Model {self.address.name} is dense; it has no selection. Use `infer`.")
        return replace(self.bounds, most_windows=min(MOST_EXPLAINED, self.bounds.most_windows))

    def scores(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> FloatArray:
        """Scores [n, k] of windows [n, channels, steps]; what goes out as FP32 is float32.

        The last column is how unlike all training windows each is, where the model tells.
        """
        size = max(1, len(window))
        scores, unknown = self.session.predict_with_unknown(window, batch_size=size, options=options)
        found = scores if unknown is None else np.concatenate([scores, unknown[:, None]], axis=1)
        return np.asarray(found, dtype=np.float32)

    def outputs(self, found: FloatArray) -> dict[str, FloatArray | BoolArray]:
        """The outputs in what `scores` returned."""
        if not self._tells:
            return {"scores": found}
        return {"scores": found[:, :-1], "unknown": found[:, -1] > 1}

    def explain(
        self, window: FloatArray, options: onnxruntime.RunOptions | None = None
    ) -> dict[str, FloatArray | BoolArray]:
        """Scores, and per layer the blocks attended to, bool [n, heads, query blocks, key blocks]."""
        outputs = self.outputs(self.scores(window, options))
        names = self.session.selection_names
        return outputs | dict(zip(names, self.session.selections(window, options=options), strict=True))

    def explain_parameters(self, outputs: Mapping[str, FloatArray | BoolArray]) -> dict[str, Any]:
        """How to read a selection: tokens per block, and the share of blocks kept per layer."""
        attention = self.bundle.manifest.get("attention", {})
        kept = {f"density.{name}": float(outputs[name].mean()) for name in self.session.selection_names}
        return {"block_size": attention.get("block_size", 0), **kept}

    def faults(self, window: FloatArray) -> str:
        """What is wrong with the sensors of windows [n, channels, steps]; "" = nothing.

        As "0: vibration: flat; 2: current: missing", each with the number of its window.
        """
        found = [f"{place}: {fault}" for place, one in enumerate(window) for fault in self.check.check(one)]
        return "; ".join(found)

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """Model metadata of the protocol."""
        steps: list[int] = [-1, self.bounds.channels or -1, -1]
        manifest = self.bundle.manifest
        return {
            "name": self.address.name,
            "versions": versions,
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "window", "datatype": "FP32", "shape": steps}],
            "outputs": [
                {"name": "scores", "datatype": "FP32", "shape": [-1, len(self.bundle.classes) or -1]},
                *([{"name": "unknown", "datatype": "BOOL", "shape": [-1]}] if self._tells else []),
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
        """What every answer states about the model that computed it."""
        return {"bundle_sha256": self.bundle_hash}


def load(address: Address, settings: Settings, rehearsed: str | None = None) -> ServedModel:
    """Open a bundle, run its golden vectors, and return the model.

    Args:
        rehearsed: `bundle_hash` of the only bundle that may be loaded; None = any.

    Raises:
        EdgeSparseError: the bundle is missing, damaged, takes named tensors, or does not reproduce its golden
            scores here.
    """
    session, bundle_hash = open_session(address, settings, rehearsed)
    return serve_windows(address, session, bundle_hash, settings)


def open_session(address: Address, settings: Settings, rehearsed: str | None) -> tuple[Session, str]:
    """The opened bundle, which reproduces its golden vectors here, and its hash.

    Raises:
        EdgeSparseError: it is missing or damaged, does not, or is not the one that was rehearsed.
    """
    bundle = open_bundle(address.path, trusted_keys=settings.trusted_keys)
    # The manifest holds the hash of every file, and every file is read against it.
    bundle_hash = hashlib.sha256(bundle.manifest_bytes).hexdigest()
    if rehearsed is not None and bundle_hash != rehearsed:
        raise BundleError(f"{address.path} must not change between its rehearsal and its loading; it did.")
    session = Session(bundle, precision=settings.precision, threads=settings.threads)
    golden = check_scores(session)
    if not golden.holds:
        raise BundleError(
            f"{address.path} must reproduce its golden scores on this machine; {golden.boundary}: "
            f"{golden.detail}."
        )
    return session, bundle_hash


def serve_windows(address: Address, session: Session, bundle_hash: str, settings: Settings) -> ServedModel:
    """The model of a session that takes windows.

    Raises:
        BundleError: it takes named tensors, or outputs what cannot be sent.
    """
    assert session.bundle is not None
    if session.takes_tensors:
        raise BundleError(
            f"{address.path} must accept windows or text to be served; it accepts named tensors (a drop-in "
            "model without a tokenizer, or a language model). Run it with edgesparse_runtime.Session."
        )
    least = int(session.bundle.manifest["input"].get("min_steps", 1))
    channels = session.channel_count if isinstance(session.channel_count, int) else None
    bounds = WindowBounds(channels, max(1, least), settings.max_steps, settings.max_windows)
    # Dynamic int8 sets its scale over the whole batch: an answer must not depend on other requests.
    max_rows = 1 if session.precision == "int8" else None
    model = ServedModel(address, bundle_hash, session, bounds, max_rows, input_check_of(session))
    raw = session.predict(np.zeros((1, channels or 1, max(least, 16)), np.float32))
    if raw.dtype not in _SCORE_TYPES:
        raise BundleError(f"{address.path} must output `scores` of type float32; it outputs {raw.dtype}.")
    if not np.isfinite(raw).all():
        raise BundleError(f"{address.path} outputs scores that are not finite for a window of zeros.")
    return model
