"""`sample`: windows to keep for the next update, where old data may not be kept whole.

Each class gets the same number of places. Within a class, windows of before and new ones share the places as
they share the windows seen so far, so that after any number of updates each window seen is kept with the same
chance (reservoir sampling; Vitter 1985).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import IndexArray


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
