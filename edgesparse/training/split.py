"""Which series are held out: whole groups where groups exist, else a share of every class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.data.series_set import SeriesSet

Indices = npt.NDArray[np.int64]


def hold_out(data: SeriesSet, share: float, *, seed: int, in_order: bool = False) -> tuple[Indices, Indices]:
    """Indices to train on and to hold out.

    Series of one group (machine, run, person) never stand on both sides: they resemble each other more than
    the next machine's will. A group that alone has a class is not held out. Without groups, or where none can
    be spared, every class gives its share and keeps at least one to train on.
    With `in_order` the last series are held out: where they follow each other in time, a model is asked about
    what came after.
    """
    rng = np.random.default_rng(seed)
    everything = np.arange(len(data))
    if share <= 0 or len(data) < 2:
        return everything, everything[:0]
    held = _hold_out_groups(data, share, rng)
    if not len(held):
        held = _last(everything, share) if in_order else _hold_out_series(data, share, rng)
    return np.setdiff1d(everything, held), np.sort(held)


def _hold_out_series(data: SeriesSet, share: float, rng: np.random.Generator) -> Indices:
    classes = _classes(data)
    if classes is None:
        return _take(np.arange(len(data)), share, rng)
    return np.concatenate([_take(np.flatnonzero(classes == c), share, rng) for c in np.unique(classes)])


def _take(index: Indices, share: float, rng: np.random.Generator) -> Indices:
    return rng.permutation(index)[: min(round(share * len(index)), len(index) - 1)]


def _last(index: Indices, share: float) -> Indices:
    return index[len(index) - min(round(share * len(index)), len(index) - 1) :]


def _classes(data: SeriesSet) -> npt.NDArray[np.str_] | None:
    """Class names; None for targets and without labels."""
    return data.labels if data.labels is not None and data.labels.dtype.kind == "U" else None  # type: ignore[return-value]


def _hold_out_groups(data: SeriesSet, share: float, rng: np.random.Generator) -> Indices:
    """Empty without groups, and where none can be spared."""
    groups, classes = data.groups, _classes(data)
    if groups is None:
        return np.arange(0)
    names = rng.permutation(np.unique(groups))
    held: list[str] = []
    for name in names[:-1]:
        is_held = np.isin(groups, [*held, name])
        if (held and is_held.mean() > share) or _loses_a_class(classes, is_held):
            continue
        held.append(name)
        if is_held.mean() >= share:
            break
    return np.flatnonzero(np.isin(groups, held))


def _loses_a_class(classes: npt.NDArray[np.str_] | None, is_held: npt.NDArray[np.bool_]) -> bool:
    return classes is not None and len(np.unique(classes[~is_held])) < len(np.unique(classes))
