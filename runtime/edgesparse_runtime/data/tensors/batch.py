"""Inputs of models that take named tensors (ids and a mask, features) instead of raw windows.

A `TensorBatch` is what a batch of windows is to other models: it has a length, can be cut into rows, and goes
where they go (`Session.predict`, golden vectors, profiling).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import IndexArray
from edgesparse_runtime.errors import InputError

# Names of golden arrays that are inputs.
PREFIX = "input."
# Which of two texts a token belongs to; a model exported without it takes single texts.
TYPES = "token_type_ids"
_KINDS = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


class TensorBatch:
    """Arrays by input name that all have the same number of rows.

    Raises:
        InputError: there is none, or they have different numbers of rows.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.arrays = dict(arrays)
        rows = {name: array.shape[0] if array.ndim else 0 for name, array in self.arrays.items()}
        if not rows or len(set(rows.values())) != 1:
            raise InputError(f"Inputs must have one number of rows; got {rows}.")
        self._rows = next(iter(rows.values()))

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: slice) -> TensorBatch:
        return TensorBatch({name: array[rows] for name, array in self.arrays.items()})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, number of tensors, and size of the first tensor's last axis: tokens or frames."""
        return self._rows, len(self.arrays), next(iter(self.arrays.values())).shape[-1]


TensorData = TensorBatch | Mapping[str, npt.ArrayLike]


class TensorInputs:
    """Named tensors, as models of `edgesparse export --hf` take.

    Args:
        inputs: onnxruntime's description of each.
        positions: most tokens that the model has positions for; None = no such limit.
    """

    def __init__(self, inputs: Sequence[Any], positions: int | None = None) -> None:
        self._inputs, self._positions = inputs, positions

    def __str__(self) -> str:
        return "named tensors"

    def batch(self, data: object) -> TensorBatch:
        """All of `data`.

        Raises:
            InputError: a tensor is missing, unknown, or of another shape or kind.
        """
        return check_tensors(self._inputs, data, positions=self._positions)

    def parts(self, data: object, size: int) -> Iterator[tuple[IndexArray, TensorBatch]]:
        """Batches of at most `size` rows, each with the rows that it holds."""
        tensors = self.batch(data)
        for i in range(0, len(tensors), size):
            yield np.arange(i, min(i + size, len(tensors))), tensors[i : i + size]


def check_tensors(inputs: Sequence[Any], data: object, *, positions: int | None = None) -> TensorBatch:
    """Lay `data` out as the model's inputs.

    Args:
        inputs: of the onnxruntime session, without those that have a default.
        data: a `TensorBatch` or arrays by name. `token_type_ids`, which tokenizers add, may be left in where
            they are all 0.
        positions: most tokens that the model has positions for; None = no such limit.

    Raises:
        InputError: a name is missing or unknown, an array has another rank, size or kind, or there are more
            tokens than positions.
    """
    if isinstance(data, TensorBatch):
        data = data.arrays
    wanted = {i.name: i for i in inputs}
    listed = ", ".join(f"{i.name} {[d or '?' for d in i.shape]}" for i in inputs)
    if isinstance(data, Mapping):
        data = _without_types(data, wanted)
    if not isinstance(data, Mapping) or set(data) != set(wanted):
        got = ", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise InputError(f"Inputs must be arrays by name, {listed}; got {got}.")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in data.items():
        kind = _KINDS.get(wanted[name].type)
        array = np.asarray(value)
        # Whole numbers become floats where the model takes those; floats never become ids.
        if kind is None or not np.can_cast(array.dtype, kind, "same_kind"):
            raise InputError(f"Input `{name}` must be {wanted[name].type}; got {array.dtype}.")
        sizes = [d for d in wanted[name].shape]
        if array.ndim != len(sizes) or any(
            isinstance(d, int) and d != n for d, n in zip(sizes, array.shape, strict=True)
        ):
            raise InputError(f"Input `{name}` must have shape {sizes}; got {list(array.shape)}.")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise InputError(f"Input `{name}` must be finite; got infinity or NaN.")
        arrays[name] = array.astype(kind)
    _check_tokens(wanted, arrays, positions)
    return TensorBatch(arrays)


def _without_types(data: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """`data` without token types that the model does not take and that say nothing."""
    if TYPES not in data or TYPES in wanted:
        return data
    if np.any(np.asarray(data[TYPES])):
        raise InputError(
            f"Input `{TYPES}` must be 0 everywhere; the model was exported for single texts. Leave out "
            "second texts, or calibrate on an .npz that holds it."
        )
    return {name: x for name, x in data.items() if name != TYPES}


def _check_tokens(
    wanted: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], positions: int | None
) -> None:
    """Inputs that share the axis of tokens must share their number, and have no more than positions."""
    shared = {name: x.shape[1] for name, x in arrays.items() if "tokens" in wanted[name].shape[1:2]}
    if not shared:
        return
    first, tokens = next(iter(shared.items()))
    other = next((name for name, count in shared.items() if count != tokens), None)
    if other is not None:
        raise InputError(
            f"Input `{other}` must have as many tokens as `{first}`, {tokens}; got {shared[other]}."
        )
    if positions is not None and tokens > positions:
        raise InputError(
            f"Inputs must have at most {positions} tokens, the positions of the model; got {tokens}. "
            f"Truncate them: tokenizer(..., truncation=True, max_length={positions})."
        )


def golden_inputs(golden: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32] | TensorBatch | None:
    """The inputs among golden vectors: raw windows, or named tensors; None where there are none."""
    if "windows" in golden:
        return golden["windows"]
    tensors = {name.removeprefix(PREFIX): x for name, x in golden.items() if name.startswith(PREFIX)}
    return TensorBatch(tensors) if tensors else None
