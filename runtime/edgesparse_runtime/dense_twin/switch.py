"""`Switch`: up to which length a dense twin runs; `lookup` finds it for a bundle that has a twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgesparse_runtime.bundle.manifest_types import Manifest

NO_TWIN = "the bundle has no dense twin; `edgesparse breakeven` makes one"


@dataclass(frozen=True)
class Switch:
    """When the dense twin runs.

    Attributes:
        limits: steps up to which it runs, by density: None is the model as exported, a number the share of
            blocks that is kept. Empty = never.
        reason: why, in words.
    """

    limits: tuple[tuple[float | None, int], ...]
    reason: str

    def takes(self, steps: int, density: float | None = None) -> bool:
        """True when dense is faster on windows of `steps`, at this density of the sparse model.

        The sparse model only gets slower with density, so what holds at a lower one holds.
        """
        for measured, limit in self.limits:
            if measured is None or density is None:
                fits = measured is None and density is None
            else:
                fits = measured <= density
            if fits and steps <= limit:
                return True
        return False

    @property
    def steps(self) -> int:
        """The longest windows that the twin runs as exported; 0 = none."""
        return max((limit for density, limit in self.limits if density is None), default=0)


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
