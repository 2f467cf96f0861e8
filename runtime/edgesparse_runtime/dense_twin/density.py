"""How much of the attention a sparse model keeps, where its knobs alone fix it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.manifest_types import Manifest


def known_density(manifest: Manifest, knobs: Mapping[str, Any], steps: int) -> float | None:
    """The share of blocks that a query block keeps where the knobs alone fix it, else None.

    They do when `top_p` is 1: then `max_blocks` are kept, whatever the data.
    """
    if set(knobs) != {"top_p", "max_blocks"} or float(np.min(knobs["top_p"])) < 1.0:
        return None
    blocks = block_count(manifest, steps)
    return min(1.0, int(np.min(knobs["max_blocks"])) / blocks)


def block_count(manifest: Manifest, steps: int) -> int:
    """Key blocks of a window."""
    tokens = -(-steps // max(1, int(manifest["input"].get("steps_per_token", 1))))
    return max(1, -(-tokens // max(1, int(manifest.get("attention", {}).get("block_size", 1)))))
