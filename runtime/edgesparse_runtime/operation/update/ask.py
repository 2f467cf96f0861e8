"""`choose_windows`: which unlabeled windows to label next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import DoubleArray


class Choice(NamedTuple):
    """A window worth a label.

    Attributes:
        row: in the data.
        reason: "uncertain" or "unlike".
        figure: difference of its two largest scores, or distance to the nearest known window, in units of the
            median distance among the data.
    """

    row: int
    reason: str
    figure: float


def choose_windows(
    count: int,
    scores_NK: DoubleArray,
    features_NF: DoubleArray,
    known_MF: DoubleArray,
    groups_N: npt.NDArray[np.str_],
) -> list[Choice]:
    """Every second one the most uncertain left, every other the one most unlike all that is known.

    Chosen windows count as known at once, so that neighbors are not chosen for the same reason; groups take
    turns.

    Args:
        known_MF: features of windows whose labels are known.
        groups_N: machine or recording of each window.
    """
    spread = features_NF.std(axis=0) + 1e-6
    x, known = features_NF / spread, known_MF / spread
    ordered = np.sort(scores_NK, axis=1)
    gap = ordered[:, -1] - (ordered[:, -2] if scores_NK.shape[1] > 1 else 0)
    nearest = np.full(len(x), np.inf)
    for row in known:
        nearest = np.minimum(nearest, _distances(x, row))
    unit = float(np.median(_distances(x, x.mean(axis=0)))) or 1.0
    names = np.unique(groups_N)
    is_left = np.ones(len(x), dtype=np.bool_)
    asked = dict.fromkeys(names.tolist(), 0)
    found: list[Choice] = []
    while len(found) < min(count, len(x)):
        open_names = [name for name in names.tolist() if is_left[groups_N == name].any()]
        name = min(open_names, key=lambda n: asked[n])
        rows = np.flatnonzero((groups_N == name) & is_left)
        is_doubt = asked[name] % 2 == 0
        row = int(rows[gap[rows].argmin()] if is_doubt else rows[nearest[rows].argmax()])
        far = float(nearest[row]) / unit
        found.append(Choice(row, "uncertain" if is_doubt else "unlike", float(gap[row]) if is_doubt else far))
        asked[name] += 1
        is_left[row] = False
        nearest = np.minimum(nearest, _distances(x, x[row]))
    return found


def _distances(x_NF: DoubleArray, row_F: DoubleArray) -> DoubleArray:
    apart = x_NF - row_F
    return np.asarray(np.sqrt(np.einsum("nf,nf->n", apart, apart)))
