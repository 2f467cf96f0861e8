"""`Session`: one exported model, opened the way that a device should run it."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgesparse_runtime.arrays import BoolArray, FloatArray, IndexArray
from edgesparse_runtime.bundle.names import SUFFIX
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.model_inputs import WindowData, WindowInputs
from edgesparse_runtime.dense_twin.switch import NO_TWIN, Switch
from edgesparse_runtime.engine import find_engine, usual_precision
from edgesparse_runtime.errors import BundleError, InputError
from edgesparse_runtime.onnx_model import OnnxModel
from edgesparse_runtime.onnx_model import default_threads as default_threads

if TYPE_CHECKING:
    from edgesparse_runtime.data.tensors.batch import TensorBatch, TensorData, TensorInputs


class Session:
    """Raw windows in, decision scores out.

    Args:
        model: a bundle (folder or archive), an opened `Bundle`, or an .onnx file.
        precision: "float32", "int8", or "auto" = the faster one here (docs/concepts/break-even.md).
        threads: threads of one prediction; None = what affinity and quota allow.
        top_p: share of the router's mass that query blocks keep, over the exported one; sparse models only.
        max_blocks: cap on key blocks per query block, over the exported one; sparse models only.
        content: an ONNX model in memory, in place of the file; `model` then only names it.
        engine: what runs sparse attention: "native", "body" (the ONNX function), or "auto" = the faster.
        attention: "auto" = the dense twin on windows so short that it was measured to be faster here
            (docs/concepts/break-even.md); "sparse" = never; "dense" = always the twin.
        trace: a folder for onnxruntime's profile and its graph of the model; `end_trace` closes it.
        operators: that a model that you trust may hold besides those known to be safe, as `ai.onnx::LSTM`.

    Attributes:
        bundle: None for a bare .onnx file.
        path: the model's file, inside its bundle.
        inputs: what the model takes, `WindowInputs` or `TensorInputs`.
        precision: "float32" or "int8" ("auto" for a bare file).
        precision_reason: why.
        threads: of one prediction.
        switch: when the dense twin runs, and why.
        is_sparse: the model has sparse attention.
        is_causal: it has scores at every token.
        unknown_threshold: of the score of unknown windows; None = it has none.
        engine: what runs attention, or the features of a model without attention.

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
        _check_choices(attention, precision, threads)
        self.threads = threads or default_threads()
        self.bundle, self.path = (None, Path(str(model))) if content is not None else _find(model)
        self.precision, self.precision_reason = precision, "as given"
        if self.bundle is not None:
            self.precision, self.precision_reason = _pick_precision(
                self.bundle, precision, self.threads, engine
            )
            name = self.bundle.model_file(self.precision)
            if attention == "dense":
                name = _twin(self.bundle, self.precision)
            self.path, content = self.bundle.path / name, self.bundle.read(name)
        if content is None:
            content = _room("model_check.read_file").read_file(self.path)
        self._model = OnnxModel(
            content,
            self.path,
            threads=self.threads,
            engine=engine,
            top_p=top_p,
            max_blocks=max_blocks,
            trace=trace,
            operators=operators,
        )
        if self.bundle is not None:
            _check_classes(self.bundle, self._model.score_count)
        self.is_sparse, self.engine = self._model.is_sparse, self._model.engine
        self.inputs = _find_inputs(self._model, self.bundle)
        self.selection_names = [name for name in self._model.outputs if name.startswith("selection.")]
        self.is_causal = "token_scores" in self._model.outputs
        self.unknown_threshold = _find_threshold(self._model, self.bundle)
        self.switch = self._look_up(attention)
        self._dense: OnnxModel | None = None
        if self.switch.limits and self.bundle is not None:
            twin = _twin(self.bundle, self.precision)
            self._dense = OnnxModel(
                self.bundle.read(twin),
                self.bundle.path / twin,
                threads=self.threads,
                engine=engine,
                operators=operators,
            )

    @property
    def knobs(self) -> dict[str, Any]:
        """`top_p` and `max_blocks` as they are fed over the exported ones; empty when they are not."""
        return dict(self._model.knobs)

    @property
    def takes_tensors(self) -> bool:
        """True for models of named tensors, False for those of windows."""
        return not isinstance(self.inputs, WindowInputs)

    @property
    def channel_count(self) -> int | None:
        """Channels of a window; None = any number, or no windows at all."""
        return self.inputs.channel_count if isinstance(self.inputs, WindowInputs) else None

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Channel names, when the model came in a bundle."""
        return None if self.bundle is None else self.bundle.channels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the scores' columns; empty for regression, and for a bare .onnx file."""
        return () if self.bundle is None else self.bundle.classes

    @property
    def score_count(self) -> int:
        """Columns of the scores; 0 = unknown."""
        return self._model.score_count or 0

    def takes_dense(self, steps: int) -> bool:
        """True when windows of `steps` run through the dense twin."""
        if self._dense is None or self.bundle is None:
            return False
        if not self._model.knobs:
            return self.switch.takes(steps)
        from edgesparse_runtime.dense_twin.density import known_density

        density = known_density(self.bundle.manifest, self._model.knobs, steps)
        return density is not None and self.switch.takes(steps, density)

    def engine_at(self, steps: int) -> str:
        """What runs attention on windows of `steps`."""
        if self._dense is not None and self.takes_dense(steps):
            return f"{self._dense.engine}, dense twin"
        return self.engine

    def predict(
        self,
        data: WindowData | TensorData,
        *,
        batch_size: int = 16,
        may_switch: bool = True,
        options: onnxruntime.RunOptions | None = None,
    ) -> FloatArray:
        """Scores [n, classes], or [n, targets] in the targets' own units; states of an exported encoder.

        A row of scores depends on its own window alone.

        Args:
            data: a `SeriesSet`, or raw windows [n, channels, time] (one window may omit n); NaN = missing,
                a tail of NaN in all channels = padding. Arrays by name where the model takes tensors.
            batch_size: at most so many windows share a run.
            may_switch: False = the sparse model itself, also where its dense twin is faster.
            options: a handle on the runs; `terminate` ends them between two operators.

        Raises:
            InputError: wrong channel count, no or too few steps, infinite values; or it was ended.
        """
        return self._outputs(["scores"], data, batch_size, may_switch, options)[0]

    def embed(self, texts: Sequence[str], *, prompt: str | None = None, batch_size: int = 16) -> FloatArray:
        """Embeddings [n, size] (docs/guides/dropin.md); a text too long is truncated with a warning."""
        found: FloatArray = _room("data.tensors.embedding").embed(self, texts, prompt, batch_size)
        return found

    def generate(self, text: str, *, max_tokens: int = 64, show: Any = None) -> str:
        """What a language model writes after `text`; `show(part)` is called on the way."""
        return str(_room("data.tensors.generation").generate(self, text, max_tokens, show))

    def predict_with_unknown(
        self, data: WindowData | TensorData, *, batch_size: int = 16, options: Any = None
    ) -> tuple[FloatArray, FloatArray | None]:
        """Scores, and how unlike training each window is [n]: above 1 = none of these; None = cannot tell."""
        if self.unknown_threshold is None:
            return self.predict(data, batch_size=batch_size, options=options), None
        scores, found = self._outputs(["scores", "unknown"], data, batch_size, True, options)
        return scores, found / np.float32(self.unknown_threshold)

    def _outputs(
        self, names: list[str], data: WindowData | TensorData, size: int, may_switch: bool, options: Any
    ) -> list[FloatArray]:
        parts: list[tuple[IndexArray, list[FloatArray]]] = []
        for rows, batch in self._parts(data, size):
            model = self._dense if may_switch and self._dense and self.takes_dense(batch.shape[2]) else None
            parts.append((rows, (model or self._model).run(names, _feeds(batch), batch.shape, options)))
        if not parts:
            none = np.zeros((0, self.score_count), dtype=np.float32)
            return [none, none[:, 0]][: len(names)]
        if len(parts) == 1:
            return parts[0][1]
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return [np.concatenate(found)[order] for found in zip(*(found for _, found in parts), strict=True)]

    def run_padded(self, windows: FloatArray | TensorBatch) -> FloatArray:
        """Scores of one run on all windows as they lie; padding counts as missing unless it is masked."""
        scores: FloatArray = self._model.run(["scores"], _feeds(windows), windows.shape)[0]
        return scores

    def token_scores(self, data: WindowData) -> FloatArray:
        """Scores at every token of causal models, [n, tokens, classes or targets].

        Those of token i are what `predict` returns for the steps up to the end of token i.

        Raises:
            InputError: the model is not causal.
        """
        if not self.is_causal or not isinstance(self.inputs, WindowInputs):
            raise InputError(f"{self.path.name} must be a causal model. Train with --set model.causal=true.")
        batch = self.inputs.batch(data)
        return np.asarray(self._model.run(["token_scores"], _feeds(batch), batch.shape)[0], dtype=np.float32)

    def selections(
        self, data: WindowData | TensorData, *, options: onnxruntime.RunOptions | None = None
    ) -> list[BoolArray]:
        """The blocks that each layer attended to: per layer, bool [n, heads, query blocks, key blocks].

        Raises:
            InputError: as `predict`; windows of different lengths, where the model does not mask padding.
        """
        batch = self.inputs.batch(data)
        found = self._model.run(self.selection_names, _feeds(batch), batch.shape, options)
        return [np.asarray(s, dtype=np.bool_) for s in found]

    def predict_with_selections(
        self, window: WindowData
    ) -> tuple[FloatArray, FloatArray | None, list[BoolArray]]:
        """As `predict_with_unknown`, and the run's selections; none of the dense twin."""
        if isinstance(self.inputs, WindowInputs) and self.selection_names:
            ((_, batch),) = self.inputs.parts(window, 1)
            if not self.takes_dense(batch.shape[2]):
                names = ["unknown"] * (self.unknown_threshold is not None) + self.selection_names
                scores, *found = self._model.run(["scores", *names], _feeds(batch), batch.shape)
                limit = self.unknown_threshold
                unknown = None if limit is None else found.pop(0) / np.float32(limit)
                return scores, unknown, [np.asarray(s, dtype=np.bool_) for s in found]
        return *self.predict_with_unknown(window), []

    def predict_labels(self, data: WindowData | TensorData, *, batch_size: int = 16) -> npt.NDArray[np.str_]:
        """The class with the highest score per window [n]; for models that have classes."""
        if not self.classes:
            raise InputError(f"{self.path.name} has no class names; `predict` returns its outputs.")
        scores = self.predict(data, batch_size=batch_size)
        return np.asarray(np.array(self.classes, dtype=np.str_)[scores.argmax(-1)], dtype=np.str_)

    def explain(self, window: WindowData, *, against: str | None = None) -> dict[str, Any]:
        """What one window's decision rests on, as `edgesparse explain --json` (docs/guides/explain.md)."""
        found: dict[str, Any] = (
            _room("explain.window").Explainer(self, against=against).explain_one(window).to_dict()
        )
        return found

    def read_model(self) -> bytes:
        """The model as it runs: the file's content, checked and written anew."""
        return self._model.content

    def end_trace(self) -> Path:
        """Close the profile of a session opened with `trace`; its path."""
        return Path(self._model.session.end_profiling())

    def prepare(self, data: WindowData) -> list[FloatArray]:
        """The windows of `data`, checked, each [channels, steps] without padding."""
        if not isinstance(self.inputs, WindowInputs):
            raise InputError(f"{self.path.name} takes named tensors; it has no windows.")
        return self.inputs.lay_out(data)

    def _parts(
        self, data: WindowData | TensorData, size: int
    ) -> Iterator[tuple[IndexArray, FloatArray]] | Iterator[tuple[IndexArray, TensorBatch]]:
        if size < 1:
            raise InputError(f"`batch_size` must be at least 1; got {size}.")
        if self._model.rows_share_scale:
            size = 1
        return self.inputs.parts(data, size)

    def _look_up(self, attention: str) -> Switch:
        if not self.is_sparse:
            return Switch((), "the model is dense" if attention == "auto" else f"attention={attention}")
        if attention != "auto":
            return Switch((), f"attention={attention}")
        if self.bundle is None or self.takes_tensors:
            return Switch((), "a dense twin is for bundles of windows")
        if not self.bundle.manifest["dense"]:
            return Switch((), NO_TWIN)
        from edgesparse_runtime.dense_twin.lookup import find_switch

        return find_switch(self.bundle.manifest, self.precision, self.threads, self.engine)


def _room(name: str) -> Any:
    return importlib.import_module(f"edgesparse_runtime.{name}")


def _feeds(batch: FloatArray | TensorBatch) -> Mapping[str, Any]:
    return {"window": batch} if isinstance(batch, np.ndarray) else batch.arrays


def _check_choices(attention: str, precision: str, threads: int | None) -> None:
    if attention not in ("auto", "sparse", "dense"):
        raise InputError(f"`attention` must be auto, sparse or dense; got {attention}.")
    if precision not in ("auto", "float32", "int8"):
        raise InputError(f"`precision` must be auto, float32 or int8; got {precision}.")
    if threads is not None and threads < 1:
        raise InputError(f"`threads` must be at least 1; got {threads}.")


def _pick_precision(bundle: Bundle, precision: str, threads: int, engine: str) -> tuple[str, str]:
    """The precision and why."""
    if precision != "auto":
        return precision, "as given"
    if len(bundle.precisions) == 1:
        return bundle.precisions[0], "the only one"
    found, choice = find_engine(engine), None
    if bundle.manifest["breakeven"]:
        from edgesparse_runtime.dense_twin.precision import measured_choice

        choice = measured_choice(bundle.manifest, threads, str(found))
    return choice or usual_precision(found.isa)


def _find_inputs(model: OnnxModel, bundle: Bundle | None) -> WindowInputs | TensorInputs:
    shapes: list[Sequence[Any]] = [i.shape for i in model.inputs]
    facts = {} if bundle is None else bundle.manifest["input"]
    if [i.name for i in model.inputs] == ["window"] and len(shapes[0]) == 3:
        return WindowInputs(
            model.path.name,
            shapes[0][1] if isinstance(shapes[0][1], int) else None,
            None if bundle is None else bundle.channels,
            min_steps=int(facts.get("min_steps", 1)),
            masks_padding=bool(facts.get("variable_length", False)),
        )
    if model.inputs and "scores" in model.outputs:
        from edgesparse_runtime.data.tensors.batch import TensorInputs

        return TensorInputs(model.inputs, facts.get("positions"))
    raise BundleError(
        f"{model.path} must take one input `window` [batch, channels, time], or named tensors, and return "
        f"`scores`; it takes {', '.join(f'{i.name} {i.shape}' for i in model.inputs)}."
    )


def _find_threshold(model: OnnxModel, bundle: Bundle | None) -> float | None:
    if "unknown" not in model.outputs:
        return None
    facts = bundle and bundle.manifest.get("unknown")
    return facts["threshold"] if facts else 1.0


def _check_classes(bundle: Bundle, score_count: int | None) -> None:
    if bundle.classes and score_count is not None and score_count != len(bundle.classes):
        raise BundleError(
            f"{bundle.path}: field `classes` must name {score_count} classes, one per score; got "
            f"{len(bundle.classes)}. Export the bundle again."
        )


def _twin(bundle: Bundle, precision: str) -> str:
    from edgesparse_runtime.dense_twin.lookup import required_twin

    return required_twin(bundle.manifest, precision, bundle.path)


def _find(model: str | Path | Bundle) -> tuple[Bundle | None, Path]:
    if isinstance(model, Bundle):
        return model, model.path
    path = Path(model)
    if path.is_dir() or path.suffix == SUFFIX:
        return open_bundle(path), path
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder.")
    return None, path
