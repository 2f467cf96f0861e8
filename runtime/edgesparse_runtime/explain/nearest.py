"""What would have to be different: the nearest window of another class, and how much of it suffices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import FloatArray, IndexArray
from edgesparse_runtime.explain.influence import Decision, Scale
from edgesparse_runtime.explain.prototypes import Prototypes, stretch
from edgesparse_runtime.session import Session


@dataclass(frozen=True)
class Nearest:
    """The nearest typical training window of the rival class.

    Attributes:
        window: [channels, steps], stretched to the explained window's length.
        row: its number in the data that the bundle was exported with.
        distance: root mean square, in spreads of each channel.
        rival: number of its class.
        swapped: segments taken over from it, in order, until the model decides for its class; None when not
            even half of them suffice.
        starts, ends: of those segments.
        score: of the rival class after the swap.
    """

    window: FloatArray
    row: int
    distance: float
    rival: int
    swapped: tuple[int, ...] | None
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    score: float

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        segments = [{"start": a, "end": b} for a, b in zip(self.starts, self.ends, strict=True)]
        return {
            "class": classes[self.rival],
            "row": self.row,
            "distance": round(self.distance, 5),
            "suffices": None if self.swapped is None else segments,
            "score_after": round(self.score, 6),
        }


def find_nearest(
    session: Session,
    prototypes: Prototypes,
    window_CT: FloatArray,
    scale: Scale,
    order: Sequence[int] | IndexArray,
    rival: Decision,
) -> Nearest | None:
    """The nearest prototype of the rival, and the segments in which the window would have to be like it.

    Args:
        order: segments by how much they speak for the decision; they are swapped in this order.
    """
    assert rival.against is not None
    found = prototypes.nearest(window_CT, rival.against)
    if found is None:
        return None
    row, distance = found
    other = stretch(prototypes.windows[row], window_CT.shape[1]).astype(np.float32)
    parts, left = [], window_CT.copy()
    most = max(1, len(scale.starts) // 2)
    for i in order[:most]:
        left[:, scale.starts[i] : scale.ends[i]] = other[:, scale.starts[i] : scale.ends[i]]
        parts.append(left.copy())
    scores = session.predict(np.stack(parts))
    flips = np.flatnonzero(scores.argmax(axis=1) == rival.against)
    swapped = tuple(int(i) for i in order[: flips[0] + 1]) if len(flips) else None
    places = sorted(swapped or ())
    return Nearest(
        other,
        int(prototypes.rows[row]),
        distance,
        rival.against,
        swapped,
        tuple(int(scale.starts[i]) for i in places),
        tuple(int(scale.ends[i]) for i in places),
        float(scores[flips[0] if len(flips) else -1, rival.against]),
    )
