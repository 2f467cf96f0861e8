"""`sample`: windows to keep for the next update, where old data may not be kept whole.

Each class gets the same number of places. Within a class, windows of before and new ones share the places as
they share the windows seen so far, so that after any number of updates each window seen is kept with the same
chance (reservoir sampling; Vitter 1985).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import IndexArray
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.operation.update.known import join


@dataclass(frozen=True)
class Kept:
    """Windows for the next update.

    Attributes:
        windows: old and new ones.
        seen: windows of each class that they stand for, over all updates.
    """

    windows: SeriesSet
    seen: dict[str, int]


def check_keep(path: Path | None, places: int) -> None:
    """Refuse a place or a number that cannot be meant.

    Raises:
        InputError: another ending than .csv, or no place for a window.
    """
    if path is not None and path.suffix != ".csv":
        raise InputError(f"`--keep` must name a file that ends in .csv; got {path.name}.")
    if places < 1:
        raise InputError(f"`--keep-windows` must be at least 1; got {places}.")


def choose_kept(bundle: Bundle, new: SeriesSet, old: SeriesSet | None, places: int) -> Kept:
    """Which windows to keep; the manifest of an updated bundle holds how many were seen."""
    assert new.labels is not None
    seen = bundle.manifest.get("update", {}).get("seen", {})
    before = np.zeros(0, dtype=np.str_) if old is None else np.asarray(old.labels, dtype=np.str_)
    rows_old, rows_new, after = sample(before, np.asarray(new.labels, dtype=np.str_), seen, places, places)
    parts = [new.take(rows_new)] if old is None else [old.take(rows_old), new.take(rows_new)]
    return Kept(join([part for part in parts if len(part)]), after)


def sample(
    old: npt.NDArray[np.str_], new: npt.NDArray[np.str_], seen: Mapping[str, int], places: int, seed: int
) -> tuple[IndexArray, IndexArray, dict[str, int]]:
    """Rows of old and of new windows to keep, and how many windows of each class were seen.

    Args:
        old: class of each window kept so far, and
        new: of each new one.
        seen: windows of each class that the kept ones stand for; those of a class not named are all of it.
        places: the most windows to keep.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(np.concatenate([old, new]))
    sizes = {str(c): int((old == c).sum() + (new == c).sum()) for c in classes}
    shares = _share(sizes, places)
    kept_old, kept_new, after = [], [], {}
    for name in sizes:
        own_old, own_new = np.flatnonzero(old == name), np.flatnonzero(new == name)
        before = max(seen.get(name, len(own_old)), len(own_old))
        after[name] = before + len(own_new)
        take = shares[name]
        wanted = rng.hypergeometric(len(own_new), before, min(take, after[name])) if len(own_new) else 0
        count = int(np.clip(wanted, take - len(own_old), min(take, len(own_new))))
        kept_new.append(rng.permutation(own_new)[:count])
        kept_old.append(rng.permutation(own_old)[: take - count])
    rows = [np.sort(np.concatenate(part)).astype(np.int64) for part in (kept_old, kept_new)]
    return rows[0], rows[1], after


def _share(sizes: Mapping[str, int], places: int) -> dict[str, int]:
    """Places per class: the same number, and what small classes leave over goes to the others."""
    found: dict[str, int] = {}
    left = places
    for i, (name, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        found[name] = min(size, left // (len(sizes) - i))
        left -= found[name]
    return found
