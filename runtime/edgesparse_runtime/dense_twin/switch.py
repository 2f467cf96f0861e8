"""`Switch`: up to which length a dense twin runs; `lookup` finds it for a bundle that has a twin."""

from __future__ import annotations

from dataclasses import dataclass

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
