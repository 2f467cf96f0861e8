""".npz: X [n, channels, time] or [n, time], and y, group, channels where there are any."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.channels import generic_names
from edgesparse_runtime.data.readers.labels import to_labels
from edgesparse_runtime.data.readers.options import ReadOptions
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError


def read_npz(path: Path, options: ReadOptions) -> SeriesSet:
    """Read a NumPy archive; steps after a series' last value are NaN in every channel."""
    arrays = _load(path)
    if "X" not in arrays:
        have = ", ".join(arrays) or "nothing"
        raise InputError(f"{path} must hold an array X [n, channels, time]; it holds {have}.")
    x = arrays["X"]
    if x.ndim == 2:
        x = x[:, None]
    if x.ndim != 3 or x.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: X must be numbers [n, channels, time]; got {x.dtype} {list(arrays['X'].shape)}."
        )
    channels = generic_names(x.shape[1])
    if "channels" in arrays:
        channels = tuple(str(name) for name in np.atleast_1d(arrays["channels"]))
        if len(channels) != x.shape[1]:
            raise InputError(f"{path}: `channels` must name {x.shape[1]} channels; got {len(channels)}.")
    for name in ("y", "group"):
        if name in arrays and arrays[name].shape != (len(x),):
            raise InputError(f"{path}: {name} must have shape [{len(x)}]; got {list(arrays[name].shape)}.")
    # A float64 beyond float32 becomes infinite, which the session refuses by name.
    with np.errstate(over="ignore"):
        series = [strip_tail(row.astype(np.float32)) for row in x]
    return SeriesSet(
        series=series,
        channels=channels,
        labels=to_labels(list(arrays["y"]), options.task, path) if "y" in arrays else None,
        groups=arrays["group"].astype(np.str_) if "group" in arrays else None,
        source=str(path),
    )


def strip_tail(x_CT: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Without the steps at the end where every channel is NaN."""
    seen = np.flatnonzero(~np.isnan(x_CT).all(axis=0))
    return x_CT[:, : int(seen[-1]) + 1] if len(seen) else x_CT[:, :0]


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} must be a .npz archive of plain arrays; it is damaged or something else.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        reason = "it holds Python objects" if "allow_pickle" in str(error) else "it is damaged"
        raise InputError(f"{path} must be a .npz archive of plain arrays; {reason}.") from None
