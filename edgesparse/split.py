"""Which series are held out: whole groups where groups exist, else a share of every class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.series_set import SeriesSet

Indices = npt.NDArray[np.int64]


def hold_out(data: SeriesSet, share: float, *, seed: int, in_order: bool = False) -> tuple[Indices, Indices]:
    """Indices to train on and to hold out.

    Series of one group (machine, run, person) never stand on both sides: they resemble each other more than
    the next machine's will. Without groups every class gives its share, and keeps at least one to train on.
    With `in_order` the last series are held out: where they follow each other in time, a model is asked about
    what came after.
    """
    rng = np.random.default_rng(seed)
    everything = np.arange(len(data))
    if share <= 0 or len(data) < 2:
        return everything, everything[:0]
    if data.groups is not None and len(np.unique(data.groups)) > 1:
        held = _hold_out_groups(data.groups, share, rng)
    elif in_order:
        held = everything[len(data) - min(round(share * len(data)), len(data) - 1) :]
    elif data.labels is not None and data.labels.dtype.kind == "U":
        held = np.concatenate(
            [_take(np.flatnonzero(data.labels == label), share, rng) for label in np.unique(data.labels)]
        )
    else:
        held = _take(everything, share, rng)
    held = np.sort(held)
    return np.setdiff1d(everything, held), held


def _take(index: Indices, share: float, rng: np.random.Generator) -> Indices:
    return rng.permutation(index)[: min(round(share * len(index)), len(index) - 1)]


def _hold_out_groups(groups: npt.NDArray[np.str_], share: float, rng: np.random.Generator) -> Indices:
    names = rng.permutation(np.unique(groups))
    held: list[str] = []
    for name in names[:-1]:
        if held and np.isin(groups, [*held, name]).mean() > share:
            continue
        held.append(name)
        if np.isin(groups, held).mean() >= share:
            break
    return np.flatnonzero(np.isin(groups, held))
