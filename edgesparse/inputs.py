"""What the public functions accept: data as a `SeriesSet`, a file or arrays; folders as `str` or `Path`."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse.config import RunConfig, TrainingConfig
from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError

Data = SeriesSet | str | PathLike[str] | npt.ArrayLike | Sequence[npt.ArrayLike]


def to_series(
    data: Data,
    settings: TrainingConfig,
    labels: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    *,
    name: str = "data",
    needs_labels: bool = True,
) -> SeriesSet:
    """Series with labels.

    Args:
        data: a `SeriesSet`; a data file; an array [n, channels, steps]; or a list of arrays
            [channels, steps], whose lengths may differ.
        labels: one per series, of arrays only: class names, or numbers for regression.
        groups: the machine, run or person of each series, of arrays only.
        name: of the argument, for messages.
        needs_labels: False = labels are not looked for in a file.

    Raises:
        InputError: another type or shape, or as many labels as there are not series.
    """
    if isinstance(data, (SeriesSet, str, PathLike)):
        if labels is not None or groups is not None:
            raise InputError(f"`labels` and `groups` go with arrays; `{name}` has its own.")
        if isinstance(data, SeriesSet):
            return data
        return read_dataset(Path(data), ReadOptions(task=settings.task, needs_labels=needs_labels))
    series = _to_arrays(data, name)
    return SeriesSet(
        series,
        generic_names(series[0].shape[0]),
        labels=None if labels is None else _to_labels(labels, settings.task, len(series)),
        groups=None if groups is None else _to_column(groups, "groups", len(series)).astype(np.str_),
        source=f"`{name}`",
    )


def to_config(config: object) -> RunConfig:
    """The configuration; None = the default.

    Raises:
        InputError: anything else.
    """
    if config is None:
        return RunConfig()
    if not isinstance(config, RunConfig):
        raise InputError(
            f"`config` must be a RunConfig; got {_shown(config)}. Give labels of arrays as `labels=`."
        )
    return config


def to_folder(out: object) -> Path:
    """The folder to write.

    Raises:
        InputError: not a path.
    """
    if not isinstance(out, (str, PathLike)) or not str(out):
        raise InputError(f"`out` must be the path of a folder to write; got {_shown(out)}.")
    folder = Path(out)
    if folder.is_file():
        raise InputError(f"{folder} is a file; `out` must be a folder.")
    return folder


def _to_arrays(data: object, name: str) -> list[npt.NDArray[np.float32]]:
    shape = f"`{name}` must be a SeriesSet, a path, an array [n, channels, steps] or a list of arrays"
    if not hasattr(data, "__len__") or isinstance(data, (bytes, dict)):
        raise InputError(f"{shape} [channels, steps]; got {_shown(data)}.")
    try:
        series = [np.asarray(np.ma.filled(x, np.nan) if np.ma.isMaskedArray(x) else x) for x in data]  # type: ignore[attr-defined]
        series = [x.astype(np.float32) for x in series]
    except (TypeError, ValueError):
        raise InputError(f"{shape} [channels, steps] of numbers; got {_shown(data)}.") from None
    wrong = next((x.shape for x in series if x.ndim != 2), None)
    if wrong is not None or not series:
        got = "none" if wrong is None else f"a series of shape {list(wrong)}"
        raise InputError(f"{shape} [channels, steps]; got {got}.")
    return series


def _to_labels(
    labels: npt.ArrayLike, task: str, count: int
) -> npt.NDArray[np.str_] | npt.NDArray[np.float64]:
    column = _to_column(labels, "labels", count)
    if task == "classification":
        return np.array([str(label) for label in column.tolist()], dtype=np.str_)
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"`labels` must be numbers for {task}; got {_shown(column[0])}.") from None


def _to_column(values: npt.ArrayLike, name: str, count: int) -> npt.NDArray[np.generic]:
    column = np.asarray(values)
    if column.shape != (count,):
        raise InputError(
            f"`{name}` must hold one entry per series ({count}); got an array of shape {list(column.shape)}."
        )
    return column


def _shown(value: object) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{kind} of shape {list(shape)}" if isinstance(shape, tuple) else f"{kind} {str(value)[:40]}"
