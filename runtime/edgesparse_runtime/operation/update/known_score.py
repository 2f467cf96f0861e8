"""The threshold of unknown windows after an update: what was unknown before may be known now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesparse_runtime.arrays import DoubleArray
from edgesparse_runtime.bundle.read import Bundle

_REFUSED = 0.05


def raised_threshold(bundle: Bundle, scores: Sequence[DoubleArray | None]) -> dict[str, Any] | None:
    """The manifest's field `unknown` of the challenger; None where the model does not tell.

    The threshold is raised until the share that the champion refuses holds on windows of each of the data,
    and is never lowered: the prototypes stay those of training.

    Args:
        scores: of the windows of each of the data, over no threshold.
    """
    before = bundle.manifest.get("unknown")
    if not before:
        return None
    refused = float(before.get("refused", _REFUSED))
    found = [float(before["threshold"])]
    for own in scores:
        if own is not None and len(own):
            place = math.ceil((len(own) + 1) * (1.0 - refused))
            found.append(float(np.sort(own)[min(place, len(own)) - 1]))
    return {**before, "threshold": max(found)}
