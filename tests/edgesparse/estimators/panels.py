"""Small labeled series as the peers hand them over."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.synthetic import make_series

# A transformer that trains in no time.
TINY = {
    "model.width": 8,
    "model.layers": 1,
    "model.num_heads": 1,
    "model.filters": 4,
    "model.thresholds": 1,
    "model.dilations": (1, 4),
}
SMALL = {"model.filters": 4}


def make_batch(count: int = 12, steps: int = 48) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """X [n, 2, steps] of two classes, and y."""
    data = make_series(count, steps=steps)
    return np.stack(data.series), np.asarray(data.labels)
