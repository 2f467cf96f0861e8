"""Inputs of models that take named tensors (ids and a mask, features) instead of raw windows.

A `TensorBatch` is what a batch of windows is to other models: it has a length, can be cut into rows, and goes
where they go (`Session.predict`, golden vectors, profiling).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.errors import InputError

# Names of golden arrays that are inputs.
PREFIX = "input."
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


def check_tensors(inputs: Sequence[Any], data: object) -> TensorBatch:
    """Lay `data` out as the model's inputs.

    Args:
        inputs: of the onnxruntime session, without those that have a default.
        data: a `TensorBatch` or arrays by name.

    Raises:
        InputError: a name is missing or unknown, or an array has another rank, size or kind.
    """
    if isinstance(data, TensorBatch):
        data = data.arrays
    wanted = {i.name: i for i in inputs}
    listed = ", ".join(f"{i.name} {[d or '?' for d in i.shape]}" for i in inputs)
    if not isinstance(data, Mapping) or set(data) != set(wanted):
        got = ", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise InputError(f"Inputs must be arrays by name, {listed}; got {got}.")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in data.items():
        kind = _KINDS.get(wanted[name].type)
        array = np.asarray(value)
        # Whole numbers become floats where asked for; floats never become ids.
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
    return TensorBatch(arrays)


def golden_inputs(golden: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32] | TensorBatch | None:
    """The inputs among golden vectors: raw windows, or named tensors; None where there are none."""
    if "windows" in golden:
        return golden["windows"]
    tensors = {name.removeprefix(PREFIX): x for name, x in golden.items() if name.startswith(PREFIX)}
    return TensorBatch(tensors) if tensors else None
