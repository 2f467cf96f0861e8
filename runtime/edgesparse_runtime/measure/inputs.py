"""New inputs for every call: no cache, branch predictor or allocator sees one twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.for_model import grid_of, read_for_model
from edgesparse_runtime.data.readers.spec import to_options
from edgesparse_runtime.data.tensors.batch import TensorBatch, golden_inputs
from edgesparse_runtime.dense_twin.density import block_count
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.machine.memory_bounds import check_counts, check_memory
from edgesparse_runtime.session import Session

FloatArray = npt.NDArray[np.float32]


class Inputs:
    """Windows [batch, channels, length] made from a few real ones by shifting and scaling.

    What the router keeps depends on the data, so real windows come first: those of `data`, else the golden
    windows of the bundle, else random walks.

    Attributes:
        source: in words, for the report.
        length: steps per window; where none is given, those of the model's window.
        window: steps of the model's training windows; None where they were of different lengths.
        batch: windows per call.
    """

    def __init__(
        self,
        session: Session,
        *,
        batch: int = 1,
        length: int | None = None,
        data: Path | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        check_counts({"--batch": batch, "--length": length})
        self.batch = batch
        self._random = np.random.default_rng(0)
        self._tensors: TensorBatch | None = None
        self.window = None if session.bundle is None else trained_window(session.bundle.manifest)
        if session.takes_tensors:
            self._tensors = _golden_tensors(session, data, length)
            self.source, self.length = "the bundle's golden inputs", self._tensors.shape[2]
            return
        base, self.source = _base(session, data, length, spec or {})
        if length is None:
            # An older bundle keeps whole recordings as golden windows; its model never sees them whole.
            length = min(base.shape[2], self.window or base.shape[2])
        self.length = length
        _check_memory(session, batch, base, length)
        self._base = fit_length(base, length)

    @property
    def golden(self) -> TensorBatch:
        """Every golden input of a model that takes named tensors."""
        assert self._tensors is not None
        return self._tensors

    def next(self) -> FloatArray:
        """The next call's windows, in fresh memory."""
        if self._tensors is not None:
            places = self._random.integers(0, len(self._tensors), self.batch)
            # A `TensorBatch` is to `Session.predict` what a batch of windows is.
            picked = TensorBatch({name: x[places] for name, x in self._tensors.arrays.items()})
            return picked  # type: ignore[return-value]
        rows = self._random.integers(0, len(self._base), self.batch)
        shift = int(self._random.integers(0, self.length))
        scale = self._random.uniform(0.95, 1.05, (self.batch, 1, 1)).astype(np.float32)
        return np.roll(self._base[rows], shift, axis=-1) * scale


def _golden_tensors(session: Session, data: Path | None, length: int | None) -> TensorBatch:
    golden = golden_inputs(session.bundle.golden()) if session.bundle else None
    if not isinstance(golden, TensorBatch):
        raise InputError(f"{session.path.name} needs named tensors. Profile its bundle, which holds some.")
    if data is not None or length is not None:
        raise InputError(
            "A model of named tensors is measured on its golden inputs. Leave out data and length."
        )
    return golden


def fit_length(windows: FloatArray, length: int) -> FloatArray:
    """Windows of another length: cut, or extended by their mirror image."""
    steps = windows.shape[2]
    if steps >= length:
        return np.ascontiguousarray(windows[:, :, :length])
    there_and_back = np.concatenate([windows, windows[:, :, ::-1]], axis=2)
    repeats = -(-length // there_and_back.shape[2])
    return np.ascontiguousarray(np.tile(there_and_back, (1, 1, repeats))[:, :, :length])


def _check_memory(session: Session, batch: int, base: FloatArray, length: int) -> None:
    scores = 0
    if session.bundle is not None and session.is_sparse:
        heads = int(session.bundle.manifest.get("attention", {}).get("num_heads", 1))
        scores = heads * block_count(session.bundle.manifest, length) ** 2
    check_memory(batch=batch, channels=base.shape[1], length=length, kept=len(base), scores=scores)


def trained_window(manifest: Mapping[str, Any]) -> int | None:
    """Steps of the windows that a bundle's model was trained on, without those that it predicts."""
    facts = manifest.get("input") or {}
    window = grid_of(manifest).window
    if window is None and facts.get("shortest") == facts.get("longest"):
        window = facts.get("longest")
    if not isinstance(window, int):
        return None
    horizon = (manifest.get("forecast") or {}).get("horizon", 0) if grid_of(manifest).window else 0
    return max(1, window - int(horizon))


def _as_batch(windows: list[FloatArray]) -> FloatArray:
    """Windows of the longest one's length; shorter ones are continued."""
    longest = max(x.shape[1] for x in windows)
    return np.concatenate([fit_length(x[None], longest) for x in windows])


def _base(
    session: Session, data: Path | None, length: int | None, spec: Mapping[str, Any]
) -> tuple[FloatArray, str]:
    if data is not None:
        manifest: Mapping[str, Any] = session.bundle.manifest if session.bundle else {}
        windows = session.prepare(read_for_model(data, manifest, to_options(spec), needs_labels=False))
        if not len(windows):
            raise InputError(f"{data} holds no series.")
        return _as_batch(windows[:64]), f"windows of {data.name}"
    if session.bundle is not None:
        golden = session.bundle.golden().get("windows")
        if golden is not None and len(golden):
            return _as_batch(session.prepare(golden)), "the bundle's golden windows"
    channels = session.channel_count if isinstance(session.channel_count, int) else 1
    check_memory(batch=1, channels=channels, length=length or 1024, kept=2 * 16, scores=0)
    walks = np.random.default_rng(0).standard_normal((16, channels, length or 1024)).cumsum(axis=-1)
    return walks.astype(np.float32), "random walks"
