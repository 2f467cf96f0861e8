"""`StepModel` and `TokenStream`: a causal model advanced token by token, all state in numpy.

The two ONNX files and their inputs are described in docs/guides/streaming.md, "Causal models".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.engine import Engine, register
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.check import check_model
from edgesparse_runtime.model_check.open import first_line, open_session, session_options
from edgesparse_runtime.stream.sample import FloatArray
from edgesparse_runtime.stream.step.binding import Memory, StepBinding

FIELD = "stream"
# Larger than any exported model; a manifest must not make us allocate all memory.
_LARGEST = 1 << 16
_LARGEST_STATE = 1 << 30


@dataclass(frozen=True)
class StepFacts:
    """What the manifest says of the step model: names of its files, and the sizes of its state."""

    step: str
    block: str
    steps_per_token: int
    history: int
    width: int
    layers: int
    num_heads: int
    kv_num_heads: int
    head_size: int
    block_size: int
    value_filter: int

    @classmethod
    def read(cls, bundle: Bundle) -> StepFacts:
        """The facts of a bundle that holds a step model.

        Raises:
            BundleError: a fact is missing, or is no size.
        """
        entry: Mapping[str, object] = bundle.manifest.get("stream", {})
        names = [name for name in cls.__dataclass_fields__]
        values = {name: entry.get(name) for name in names}
        for name in names:
            value = values.get(name)
            if name in ("step", "block"):
                fits = value in bundle.manifest["files"]
            else:
                least = 0 if name == "value_filter" else 1
                fits = type(value) is int and least <= value <= _LARGEST
            if not fits:
                raise BundleError(
                    f"{bundle.path}: `{FIELD}.{name}` in the manifest must be a file or a size; "
                    f"got {value!r}. Export the bundle again."
                )
        return cls(**values)  # type: ignore[arg-type]


class StepModel:
    """The two opened files of a step model; any number of `TokenStream`s run on one.

    Args:
        facts: the sizes of its state.
        step, block: the files' content.
        channels: of a sample.
        threads: threads of one run.
        knobs: `top_p` and `max_blocks` over the exported ones.

    Raises:
        BundleError: the files are no models.
    """

    def __init__(
        self,
        facts: StepFacts,
        step: bytes,
        block: bytes,
        *,
        channels: int,
        threads: int = 1,
        knobs: dict[str, Any] | None = None,
    ) -> None:
        self.facts = facts
        self.channels = channels
        self._knobs = knobs or {}
        self._step, self.engine = _open(facts.step, step, threads)
        self._block, _ = _open(facts.block, block, threads)

    @classmethod
    def open(cls, bundle: Bundle, *, threads: int = 1, knobs: dict[str, Any] | None = None) -> StepModel:
        """The step model of a bundle that has one (`has_step_model`).

        Raises:
            BundleError: the files or what the manifest says of them are damaged.
        """
        facts = StepFacts.read(bundle)
        step, block = bundle.read(facts.step), bundle.read(facts.block)
        return cls(facts, step, block, channels=len(bundle.channels), threads=threads, knobs=knobs)

    def bind_step(self) -> StepBinding:
        """The inputs and outputs of one token, for the memory of one stream."""
        return StepBinding(self._step, self.facts.step)

    @property
    def score_count(self) -> int:
        """Classes or targets.

        Raises:
            BundleError: the file does not say how many.
        """
        shape = self._step.get_outputs()[0].shape
        if len(shape) != 1 or type(shape[0]) is not int or not 0 < shape[0] <= _LARGEST:
            raise BundleError(
                f"{self.facts.step} must have scores of one fixed size; got {shape}. Export the bundle again."
            )
        return shape[0]

    def run_block(self, feeds: dict[str, Any]) -> list[Any]:
        """past_key, past_value, past_bias, mean_key, mean_value and route_key after a full block."""
        found = _run(self.facts.block, self._block, {**feeds, **self._knobs})
        f = self.facts
        mean = (f.layers, f.kv_num_heads, f.head_size)
        is_right = len(found) == 6 and all(isinstance(x, np.ndarray) and x.dtype == np.float32 for x in found)
        if not is_right or any(x.shape != mean for x in found[3:]):
            raise BundleError(
                f"{f.block} must give six float32 tensors, the last three of shape {mean}; it gives others. "
                "Export the bundle again."
            )
        return found


class TokenStream:
    """One stretch of samples: after each, the scores that the whole stretch would get as one window.

    Args:
        model: the step model.
        steps: most samples that will come.

    Raises:
        BundleError: the sizes that the manifest states need more memory than any exported model.
    """

    def __init__(self, model: StepModel, steps: int) -> None:
        f = self._facts = model.facts
        self._model = model
        tokens = -(-steps // f.steps_per_token)
        blocks = tokens // f.block_size
        groups, heads, size = f.kv_num_heads, f.num_heads, f.head_size
        _check_state(f, model.channels, blocks)
        self._steps = steps
        self._samples = np.zeros((model.channels, f.steps_per_token), dtype=np.float32)
        self._filled = 0
        self._history = np.zeros((model.channels, f.history), dtype=np.float32)
        self._token_sum = np.zeros(f.width, dtype=np.float32)
        self._token_count = np.zeros(1, dtype=np.float32)
        self._tokens = 0
        self._value_tail = _zeros(f.layers, max(0, f.value_filter - 1), groups * size)
        # The block that is being filled.
        self._query = _zeros(f.layers, heads, f.block_size, size)
        self._key = _zeros(f.layers, groups, f.block_size, size)
        self._value = _zeros(f.layers, groups, f.block_size, size)
        # Full blocks, and what the router and the summaries keep of each.
        self._blocks = 0
        self._keys = _zeros(blocks, f.layers, groups, f.block_size, size)
        self._values = _zeros(blocks, f.layers, groups, f.block_size, size)
        self._mean_keys, self._mean_values, self._route_keys = (
            _zeros(blocks, f.layers, groups, size) for _ in range(3)
        )
        # What the step reads and writes: a token of 1, 2, ... samples, raw and normalized, and what it gives.
        self._partial: dict[int, tuple[Memory, Memory]] = {}
        self._scores, self._token = _zeros(model.score_count), _zeros(f.width)
        self._new_query = _zeros(f.layers, heads, size)
        self._new_key, self._new_value = (_zeros(f.layers, groups, size) for _ in range(2))
        # The keys and values of the block's first 0, 1, 2, ... tokens, each made when it is first needed.
        self._prefixes: dict[int, tuple[Memory, Memory]] = {}
        self._binding = self._bind()

    def _bind(self) -> StepBinding:
        """The step over this stream's memory; inputs whose shapes change are bound where they change."""
        f = self._facts
        binding = self._model.bind_step()
        for name, array in (
            ("history", self._history),
            ("token_sum", self._token_sum),
            ("token_count", self._token_count),
            ("value_tail", self._value_tail),
        ):
            binding.set_input(name, Memory.of(array))
        for name, array in (
            ("scores", self._scores),
            ("token", self._token),
            ("query", self._new_query),
            ("key", self._new_key),
            ("value", self._new_value),
        ):
            binding.set_output(name, Memory.of(array))
        self._binding = binding
        # What every token of this block attends to; one token of zero weight before there is anything.
        key, value = (_zeros(f.layers, f.num_heads, 1, f.head_size) for _ in range(2))
        self._bind_past(key, value, np.full((f.layers, f.num_heads, 1, 1), -np.inf, dtype=np.float32))
        self._bind_block()
        return binding

    def _bind_past(self, key: FloatArray, value: FloatArray, bias: FloatArray) -> None:
        for name, array in (("past_key", key), ("past_value", value), ("past_bias", bias)):
            self._binding.set_input(name, Memory.of(array))

    def _bind_block(self) -> None:
        own = self._tokens % self._facts.block_size
        if own not in self._prefixes:
            shape = (self._facts.layers, self._facts.kv_num_heads, own, self._facts.head_size)
            self._prefixes[own] = Memory.of(_zeros(*shape)), Memory.of(_zeros(*shape))
        key, value = self._prefixes[own]
        key.array[:], value.array[:] = self._key[:, :, :own], self._value[:, :, :own]
        self._binding.set_input("block_key", key)
        self._binding.set_input("block_value", value)

    def push(self, values: FloatArray, *, wants_scores: bool = True) -> FloatArray | None:
        """Take in one sample [channels]; NaN = missing.

        Costs one token where scores are wanted or a token is full, and next to nothing otherwise.

        Returns:
            scores [n] of all samples so far, where they are wanted.

        Raises:
            ValueError: more samples than there is room for.
        """
        if self._tokens * self._facts.steps_per_token + self._filled >= self._steps:
            raise ValueError(f"`steps` must be at least the number of samples; it is {self._steps}.")
        self._samples[:, self._filled] = values
        self._filled += 1
        is_full = self._filled == self._facts.steps_per_token
        if not (is_full or wants_scores):
            return None
        if self._filled not in self._partial:
            shape = self._model.channels, self._filled
            self._partial[self._filled] = Memory.of(_zeros(*shape)), Memory.of(_zeros(*shape))
        samples, normal = self._partial[self._filled]
        samples.array[:] = self._samples[:, : self._filled]
        self._binding.set_input("samples", samples)
        self._binding.set_output("normal", normal)
        self._binding.run()
        if is_full:
            self._keep(normal.array)
        return self._scores.copy() if wants_scores else None

    def _keep(self, normal: FloatArray) -> None:
        """Make a full token part of the state."""
        # A token may hold more steps than the filters look back on.
        latest = np.concatenate([self._history, normal], axis=1)
        self._history[:] = latest[:, latest.shape[1] - self._history.shape[1] :]
        self._token_sum += self._token
        row = self._tokens % self._facts.block_size
        self._query[:, :, row] = self._new_query
        self._key[:, :, row], self._value[:, :, row] = self._new_key, self._new_value
        if self._value_tail.shape[1]:
            self._value_tail[:, :-1] = self._value_tail[:, 1:]
            self._value_tail[:, -1] = self._new_value.reshape(len(self._new_value), -1)
        self._tokens += 1
        self._token_count[0] = self._tokens
        self._filled = 0
        if self._tokens % self._facts.block_size == 0:
            self._close_block()
        self._bind_block()

    def _close_block(self) -> None:
        """A block is full: choose what the tokens of the next one attend to."""
        n = self._blocks
        self._keys[n], self._values[n] = self._key, self._value
        feeds = {
            "query": self._query,
            "keys": self._keys[: n + 1],
            "values": self._values[: n + 1],
            "mean_keys": self._mean_keys[:n],
            "mean_values": self._mean_values[:n],
            "route_keys": self._route_keys[:n],
        }
        *past, mean_key, mean_value, route_key = self._model.run_block(feeds)
        self._bind_past(*past)
        self._mean_keys[n], self._mean_values[n], self._route_keys[n] = mean_key, mean_value, route_key
        self._blocks = n + 1


def has_step_model(bundle: Bundle | None) -> bool:
    """True for the bundle of a causal model that was exported with its step model."""
    return bundle is not None and bundle.manifest.get(FIELD) is not None


def _check_state(f: StepFacts, channels: int, blocks: int) -> None:
    a_block = f.layers * f.block_size * f.head_size * (f.num_heads + 2 * f.kv_num_heads)
    prefixes = f.layers * f.block_size * f.block_size * f.head_size * f.kv_num_heads
    tail = f.layers * f.value_filter * f.kv_num_heads * f.head_size
    partial = channels * f.steps_per_token * (f.steps_per_token + 1)
    state = 4 * ((blocks + 1) * a_block + prefixes + partial + tail + channels * f.history)
    if state > _LARGEST_STATE:
        raise BundleError(
            f"`{FIELD}` in the manifest must need at most {_LARGEST_STATE >> 20} MB of state; its sizes "
            f"need {state >> 20} MB. Export the bundle again."
        )


def _open(name: str, content: bytes, threads: int) -> tuple[onnxruntime.InferenceSession, Engine]:
    options = session_options(threads)
    engine = register(options)
    return open_session(check_model(content, name), name, options), engine


def _run(name: str, session: onnxruntime.InferenceSession, feeds: dict[str, Any]) -> list[Any]:
    try:
        return list(session.run(None, feeds))
    except Exception as error:  # onnxruntime raises a class of its own for each status
        raise BundleError(
            f"{name} must run on the state that the manifest describes; {first_line(error)}. "
            "Export the bundle again."
        ) from None


def _zeros(*shape: int) -> FloatArray:
    return np.zeros(shape, dtype=np.float32)
