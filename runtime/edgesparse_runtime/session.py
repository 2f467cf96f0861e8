"""`Session`: one exported model, opened the way that a device should run it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgesparse_runtime.bundle.names import SUFFIX
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.regular_file import open_regular
from edgesparse_runtime.data.readers import check_channels
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.data.tensor_batch import TensorBatch, check_tensors
from edgesparse_runtime.dense_switch import Switch, find_switch, known_density, twin_file
from edgesparse_runtime.engine import first_line, open_session, register, session_options
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.machine.cgroup import cgroup_quota
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.model_check.limits import LIMITS

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def default_threads() -> int:
    """Cores this process may use: CPU affinity, and the container's quota where there is one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(allowed, int(quota)) if quota else allowed)


class Session:
    """Raw windows in, decision scores out.

    Args:
        model: a bundle (folder or archive), an opened `Bundle`, or an .onnx file.
        precision: "float32", "int8", or "auto" = int8 where the bundle holds it.
        threads: threads of one prediction; None = what affinity and quota allow.
        top_p: share of the router's mass that query blocks keep, over the exported one; sparse models only.
        max_blocks: cap on key blocks a query block, over the exported one; sparse models only.
        content: an ONNX model in memory, in place of the file; `model` then only names it.
        engine: what runs sparse attention: "native", "body" (the ONNX function), or "auto" = the first that
            this machine has, unless `EDGESPARSE_ENGINE` says which.
        attention: "auto" = the bundle's dense twin on windows so short that it was measured to be faster on a
            machine like this one (docs/break-even.md); "sparse" = never; "dense" = always the twin.
        trace: a folder to write onnxruntime's own profile and the graph that it made of the model to;
            `end_trace` closes it. Slows each call down.
        operators: of a model of your own that you trust: operators that it may hold besides those known to be
            safe, as `ai.onnx::LSTM`.

    Raises:
        InputError: no such file or precision, or a knob that the model does not have.
        BundleError: damaged, or not a model.
    """

    def __init__(
        self,
        model: str | Path | Bundle,
        *,
        precision: str = "auto",
        threads: int | None = None,
        top_p: float | None = None,
        max_blocks: int | None = None,
        content: bytes | None = None,
        engine: str = "auto",
        attention: str = "auto",
        trace: Path | None = None,
        operators: Collection[str] = (),
    ) -> None:
        if attention not in ("auto", "sparse", "dense"):
            raise InputError(f"`attention` must be auto, sparse or dense; got {attention}.")
        if precision not in ("auto", "float32", "int8"):
            raise InputError(f"`precision` must be auto, float32 or int8; got {precision}.")
        if threads is not None and threads < 1:
            raise InputError(f"`threads` must be at least 1; got {threads}.")
        self.bundle, self.path = (None, Path(str(model))) if content is not None else _find(model)
        if self.bundle is not None:
            if precision == "auto":
                precision = "int8" if "int8" in self.bundle.precisions else "float32"
            name = self.bundle.model_file(precision)
            if attention == "dense":
                name = _twin(self.bundle, precision)
            self.path = self.bundle.path / name
            # The bytes whose hash was checked are the bytes that run.
            content = self.bundle.read(name)
        if content is None:
            content = _read_file(self.path)
        # What reaches onnxruntime is what was checked, written anew; never the file itself.
        checked = check_model(content, str(self.path), operators=operators)
        self._content = checked.content
        self.precision = precision
        self.threads = threads or default_threads()
        options = session_options(self.threads)
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace / "profile")
            options.optimized_model_filepath = str(trace / "optimized.onnx")
        attached = str(register(options, wanted=engine))
        self._session = open_session(checked.content, options, str(self.path))
        inputs, outputs = self._session.get_inputs(), [o.name for o in self._session.get_outputs()]
        knobs = {knob.name: knob for knob in self._session.get_overridable_initializers()}
        _check_scores(self.path, self._session)
        if self.bundle is not None:
            _check_classes(self.bundle, self._session)
        self.is_sparse = "top_p" in knobs
        # A dense model's attention is onnxruntime's own.
        self.engine = attached if self.is_sparse else "onnxruntime"
        self._feed = _overrides(knobs, top_p, max_blocks)
        self._inputs = inputs
        takes_windows = [i.name for i in self._inputs] == ["window"] and len(self._inputs[0].shape) == 3
        # Models of `edgesparse export --hf` take named tensors in place of windows.
        self.takes_tensors = not takes_windows and "scores" in outputs and bool(self._inputs)
        if not takes_windows and not self.takes_tensors:
            raise BundleError(
                f"{self.path} must take one input `window` [batch, channels, time], or named "
                f"tensors and return `scores`; it takes {', '.join(f'{i.name} {i.shape}' for i in inputs)}."
            )
        self.channel_count = None if self.takes_tensors else self._inputs[0].shape[1]
        self.selection_names = [name for name in outputs if name.startswith("selection.")]
        self.is_causal = "token_scores" in outputs
        self.switch = self._look_up(attention)
        self._dense: Session | None = None
        if self.switch.limits:
            self._dense = Session(
                self.bundle or model,
                precision=precision,
                threads=threads,
                engine=engine,
                attention="dense",
                operators=operators,
            )

    @property
    def knobs(self) -> dict[str, Any]:
        """`top_p` and `max_blocks` as they are fed over the exported ones; empty when they are not."""
        return dict(self._feed)

    def takes_dense(self, steps: int) -> bool:
        """True when windows of `steps` run through the dense twin."""
        if self._dense is None or self.bundle is None:
            return False
        if not self._feed:
            return self.switch.takes(steps)
        density = known_density(self.bundle.manifest, self._feed, steps)
        return density is not None and self.switch.takes(steps, density)

    def engine_at(self, steps: int) -> str:
        """What runs attention on windows of `steps`."""
        if self._dense is not None and self.takes_dense(steps):
            return f"{self._dense.engine}, dense twin"
        return self.engine

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Channel names, when the model came in a bundle."""
        return None if self.bundle is None else self.bundle.channels

    def predict(
        self,
        data: SeriesSet | TensorBatch | npt.ArrayLike | Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike],
        *,
        batch_size: int = 16,
        may_switch: bool = True,
    ) -> FloatArray:
        """Scores [n, classes], or [n, targets] in the targets' own units; states of an exported encoder.

        Args:
            data: a `SeriesSet`, or raw windows [n, channels, time] (one window may omit n); NaN = missing,
                a tail of NaN in all channels = padding. Arrays by name where the model takes tensors.
            batch_size: series are run so many at a time.
            may_switch: False = the sparse model itself, also where its dense twin is faster.

        Raises:
            InputError: wrong channel count, no or too few steps, infinite values.
        """
        batch = self.prepare(data)
        model = self if not may_switch else self._choose(batch.shape[2])
        parts = (batch[i : i + batch_size] for i in range(0, len(batch), batch_size))
        rows = [model._run(["scores"], part)[0] for part in parts]
        return np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    def token_scores(self, data: SeriesSet | npt.ArrayLike) -> FloatArray:
        """Scores at every token of causal models, [n, tokens, classes or targets].

        Token i's are what `predict` says of the steps up to the end of token i.

        Raises:
            InputError: the model is not causal.
        """
        if not self.is_causal:
            raise InputError(f"{self.path.name} must be a causal model. Train with --set model.causal=true.")
        return np.asarray(self._run(["token_scores"], self.prepare(data))[0], dtype=np.float32)

    def selections(self, data: SeriesSet | TensorBatch | npt.ArrayLike) -> list[BoolArray]:
        """The blocks that each layer attended to, bool [n, heads, query blocks, key blocks] a layer."""
        return [np.asarray(s, dtype=np.bool_) for s in self._run(self.selection_names, self.prepare(data))]

    def scores(self, batch: FloatArray, options: onnxruntime.RunOptions | None = None) -> FloatArray:
        """Scores of one model run on a batch that `prepare` returned.

        Args:
            options: a handle on the run; `terminate` ends it between two operators.

        Raises:
            InputError: the model does not run on it, or was ended.
        """
        scores: FloatArray = self._choose(batch.shape[2])._run(["scores"], batch, options)[0]
        return scores

    def read_model(self) -> bytes:
        """The model as it runs: the file's content, checked and written anew."""
        return self._content

    def end_trace(self) -> Path:
        """Close the profile of a session that was opened with `trace`, and say where it is."""
        return Path(self._session.end_profiling())

    def prepare(
        self,
        data: SeriesSet | TensorBatch | npt.ArrayLike | Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike],
    ) -> FloatArray:
        """Check `data` and lay it out as one float32 array [n, channels, time].

        Where the model takes tensors, a `TensorBatch` stands for that array.
        """
        if self.takes_tensors:
            return check_tensors(self._inputs, data)  # type: ignore[return-value]
        if isinstance(data, (TensorBatch, Mapping)):
            raise InputError(f"{self.path.name} takes windows [batch, channels, time]; got named arrays.")
        if isinstance(data, SeriesSet) and self.channels is not None:
            data = check_channels(data, self.channels)
        values = data.to_batch() if isinstance(data, SeriesSet) else data
        try:
            batch = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError):
            raise InputError("Input `window` must be numbers [batch, channels, time].") from None
        if batch.ndim == 2:
            batch = batch[None]
        if batch.ndim != 3 or (isinstance(self.channel_count, int) and batch.shape[1] != self.channel_count):
            names = f" The model was trained on channels {', '.join(self.channels)}." if self.channels else ""
            raise InputError(
                f"Input `window` must have shape [batch, {self.channel_count}, time]; "
                f"got {list(batch.shape)}.{names}"
            )
        least = 1 if self.bundle is None else int(self.bundle.manifest["input"].get("min_steps", 1))
        if batch.shape[2] < least:
            raise InputError(f"Input `window` must have at least {least} steps; got {batch.shape[2]}.")
        if np.isinf(batch).any():
            raise InputError("Input `window` must be finite; got infinity. Use NaN for a missing value.")
        return batch

    def _look_up(self, attention: str) -> Switch:
        if not self.is_sparse:
            return Switch((), "the model is dense" if attention == "auto" else f"{attention}: asked for")
        if attention != "auto":
            return Switch((), f"{attention}: asked for")
        if self.bundle is None or self.takes_tensors:
            return Switch((), "a dense twin is for bundles of windows")
        return find_switch(self.bundle.manifest, self.precision, self.threads, self.engine)

    def _choose(self, steps: int) -> Session:
        return self._dense if self._dense is not None and self.takes_dense(steps) else self

    def _run(
        self,
        outputs: list[str],
        batch: FloatArray | TensorBatch,
        options: onnxruntime.RunOptions | None = None,
    ) -> list[Any]:
        try:
            feeds = batch.arrays if isinstance(batch, TensorBatch) else {"window": batch}
            return list(self._session.run(outputs, {**feeds, **self._feed}, options))
        except Exception as error:  # onnxruntime raises a class of its own for each status
            raise InputError(
                f"{self.path.name} does not run on input {list(batch.shape)}; {first_line(error)}."
            ) from None


def _check_scores(path: Path, session: onnxruntime.InferenceSession) -> None:
    """Whoever reads scores reads them as float32."""
    for output in session.get_outputs():
        if output.name in ("scores", "token_scores") and output.type != "tensor(float)":
            raise BundleError(
                f"{path} must return `{output.name}` as float32; it returns {output.type}. Export it again."
            )


def _check_classes(bundle: Bundle, session: onnxruntime.InferenceSession) -> None:
    """A decision needs a name for every score."""
    shape: Sequence[Any] = next((o.shape for o in session.get_outputs() if o.name == "scores"), ())
    if bundle.classes and len(shape) == 2 and isinstance(shape[1], int) and shape[1] != len(bundle.classes):
        raise BundleError(
            f"{bundle.path}: field `classes` must name {shape[1]} classes, one a score; got "
            f"{len(bundle.classes)}. Export the bundle again."
        )


def _twin(bundle: Bundle, precision: str) -> str:
    file = twin_file(bundle.manifest, precision)
    if file is None:
        raise InputError(
            f"`attention` must not be dense; {bundle.path} has no dense {precision} twin. "
            "`edgesparse breakeven` makes one."
        )
    return file


def _find(model: str | Path | Bundle) -> tuple[Bundle | None, Path]:
    if isinstance(model, Bundle):
        return model, model.path
    path = Path(model)
    if path.is_dir() or path.suffix == SUFFIX:
        return open_bundle(path), path
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder.")
    return None, path


def _read_file(path: Path) -> bytes:
    with open_regular(path) as stream:
        content = stream.read(LIMITS.largest + 1)
    if len(content) > LIMITS.largest:
        raise BundleError(f"{path} must be at most {LIMITS.largest >> 30} GB.")
    return content


def _overrides(knobs: dict[str, Any], top_p: float | None, max_blocks: int | None) -> dict[str, Any]:
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
